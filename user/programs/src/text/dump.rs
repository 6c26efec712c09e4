//! Bytes in hexadecimal.

use alloc::format;
use alloc::string::String;

/// One line of a dump: offset, up to 16 bytes in hexadecimal, and those that are ASCII.
#[must_use]
pub fn dump_line(offset: u64, bytes: &[u8]) -> String {
    let mut line = format!("{offset:08x}  ");
    for (index, byte) in bytes.iter().enumerate() {
        line += &format!("{byte:02x}{}", if index == 7 { "  " } else { " " });
    }
    while line.len() < 60 {
        line.push(' ');
    }
    line.push('|');
    line.extend(bytes.iter().map(|&byte| match byte {
        0x20..0x7f => char::from(byte),
        _ => '.',
    }));
    line + "|"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_like_those_of_hexdump() {
        let expected = "00000010  61 62 63 64 65 66 67 68  69 6a 6b 6c 6d 6e 0a ff  |abcdefghijklmn..|";
        assert_eq!(dump_line(16, b"abcdefghijklmn\n\xff"), expected);
        let expected = "00000000  61                                                |a|";
        assert_eq!(dump_line(0, b"a"), expected);
    }
}
