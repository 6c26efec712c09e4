//! From bytes to keys: UTF-8, control characters, and the escape sequences that terminals send (ECMA-48,
//! xterm).

use alloc::vec::Vec;

/// A key, or what a terminal reports in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// A character to insert.
    Char(char),
    /// A letter with Ctrl held.
    Ctrl(char),
    /// A letter with Alt held.
    Alt(char),
    /// End of the line.
    Enter,
    /// Tab.
    Tab,
    /// Removes what is before the cursor.
    Backspace,
    /// Removes what is at the cursor.
    Delete,
    /// Cursor keys.
    Left,
    /// Cursor keys.
    Right,
    /// Cursor keys.
    Up,
    /// Cursor keys.
    Down,
    /// Cursor left, with Ctrl or Alt held.
    WordLeft,
    /// Cursor right, with Ctrl or Alt held.
    WordRight,
    /// Start of the line.
    Home,
    /// End of the line.
    End,
    /// The terminal's answer to where the cursor is: its column, from 1.
    Column(usize),
}

/// Bytes of a key that is not complete yet.
#[derive(Debug, Default)]
pub struct Keys {
    pending: Vec<u8>,
}

/// Longest sequence that is waited for.
const PENDING_MAX: usize = 16;
const ESCAPE: u8 = 0x1b;

impl Keys {
    /// Takes a byte; returns the key that it completes.
    pub fn push(&mut self, byte: u8) -> Option<Key> {
        if byte == ESCAPE {
            self.pending = [ESCAPE].into();
            return None;
        }
        self.pending.push(byte);
        let key = match self.pending[0] {
            ESCAPE => escape(&self.pending)?,
            0..0x80 => control(byte),
            _ => character(&self.pending)?,
        };
        self.pending.clear();
        key
    }
}

/// None: not complete. Some(None): complete, and nothing to anyone.
type Found = Option<Option<Key>>;

fn control(byte: u8) -> Option<Key> {
    match byte {
        b'\r' | b'\n' => Some(Key::Enter),
        b'\t' => Some(Key::Tab),
        0x7f | 0x08 => Some(Key::Backspace),
        1..0x1b => Some(Key::Ctrl(char::from(byte + b'a' - 1))),
        0x20.. => Some(Key::Char(char::from(byte))),
        _ => None,
    }
}

fn character(bytes: &[u8]) -> Found {
    match core::str::from_utf8(bytes) {
        Ok(text) => Some(text.chars().next().map(Key::Char)),
        Err(error) if error.error_len().is_none() && bytes.len() < 4 => None,
        Err(_) => Some(None),
    }
}

fn escape(bytes: &[u8]) -> Found {
    let last = *bytes.last()?;
    match bytes.get(1)? {
        b'[' | b'O' if bytes.len() == 2 => None,
        b'[' if !(0x40..0x7f).contains(&last) => (bytes.len() >= PENDING_MAX).then_some(None),
        b'[' | b'O' => Some(sequence(&bytes[2..bytes.len() - 1], last)),
        0x7f | 0x08 => Some(Some(Key::Ctrl('w'))),
        letter => Some(letter.is_ascii_alphabetic().then(|| Key::Alt(char::from(*letter)))),
    }
}

fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    let mut numbers = parameters
        .split(|&byte| byte == b';')
        .map(|digits| core::str::from_utf8(digits).ok().and_then(|text| text.parse::<usize>().ok()));
    let first = numbers.next().flatten().unwrap_or(1);
    let second = numbers.next().flatten();
    // The second number is 1 plus a mask of modifiers: 1 Shift, 2 Alt, 4 Ctrl.
    let by_word = second.is_some_and(|modifiers| modifiers.wrapping_sub(1) & 6 != 0);
    match (last, first) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', _) => Some(if by_word { Key::WordRight } else { Key::Right }),
        (b'D', _) => Some(if by_word { Key::WordLeft } else { Key::Left }),
        (b'H', _) | (b'~', 1 | 7) => Some(Key::Home),
        (b'F', _) | (b'~', 4 | 8) => Some(Key::End),
        (b'~', 3) => Some(Key::Delete),
        (b'R', _) => second.map(Key::Column),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().filter_map(|&byte| keys.push(byte)).collect()
    }

    #[test]
    fn text_and_controls() {
        let expected =
            [Key::Char('a'), Key::Char('ä'), Key::Char('€'), Key::Char('😀'), Key::Enter, Key::Tab];
        assert_eq!(keys("aä€😀\r\t".as_bytes()), expected);
        assert_eq!(
            keys(b"\x01\x7f\x08\x1a"),
            [Key::Ctrl('a'), Key::Backspace, Key::Backspace, Key::Ctrl('z')]
        );
    }

    #[test]
    fn sequences_of_terminals() {
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[C\x1b[D"), [Key::Up, Key::Down, Key::Right, Key::Left]);
        assert_eq!(keys(b"\x1b[H\x1bOF\x1b[1~\x1b[4~"), [Key::Home, Key::End, Key::Home, Key::End]);
        assert_eq!(keys(b"\x1b[3~\x1b[1;5D\x1b[1;3C"), [Key::Delete, Key::WordLeft, Key::WordRight]);
        assert_eq!(keys(b"\x1bb\x1bf\x1b\x7f"), [Key::Alt('b'), Key::Alt('f'), Key::Ctrl('w')]);
        assert_eq!(keys(b"\x1b[24;80R"), [Key::Column(80)]);
        assert_eq!(keys(b"\x1b[15~\x1b[200~x"), [Key::Char('x')]);
        assert_eq!(keys(b"\x1b\x1b[Ax"), [Key::Up, Key::Char('x')]);
    }

    #[test]
    fn broken_text_is_skipped() {
        assert_eq!(keys(b"\xff\xc3(a"), [Key::Char('a')]);
        assert_eq!(keys(b"\0b"), [Key::Char('b')]);
    }

    proptest! {
        #[test]
        fn any_bytes_leave_it_usable(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut keys = Keys::default();
            for byte in bytes {
                keys.push(byte);
                prop_assert!(keys.pending.len() <= PENDING_MAX);
            }
            for byte in [b'~'; PENDING_MAX] {
                keys.push(byte);
            }
            prop_assert_eq!(keys.push(b'x'), Some(Key::Char('x')));
        }
    }
}
