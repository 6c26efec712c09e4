//! The boot archive: ustar (POSIX.1-2017, pax, "ustar Interchange Format").

/// A file of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct File<'a> {
    /// Its path.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

const BLOCK: usize = 512;

/// The ordinary files of an archive, in order. What makes no sense ends it.
pub fn files(archive: &[u8]) -> impl Iterator<Item = File<'_>> {
    let mut rest = archive;
    core::iter::from_fn(move || {
        loop {
            let (header, after) = rest.split_at_checked(BLOCK)?;
            if header[257..262] != *b"ustar" {
                return None;
            }
            let len = octal(&header[124..136])?;
            let bytes = after.get(..len)?;
            rest = after.get(len.checked_next_multiple_of(BLOCK)?..).unwrap_or(&[]);
            if matches!(header[156], b'0' | 0) {
                return Some(File { name: text(&header[..100])?, bytes });
            }
        }
    })
}

/// The file of that path.
#[must_use]
pub fn find<'a>(archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    files(archive).find(|file| file.name.trim_start_matches("./") == name).map(|file| file.bytes)
}

fn text(field: &[u8]) -> Option<&str> {
    core::str::from_utf8(field.split(|&byte| byte == 0).next()?).ok()
}

fn octal(field: &[u8]) -> Option<usize> {
    let digits = text(field)?.trim();
    usize::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn archive(files: &[(&str, u8, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, kind, bytes) in files {
            let mut header = [0; BLOCK];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
            header[156] = *kind;
            header[257..262].copy_from_slice(b"ustar");
            archive.extend_from_slice(&header);
            archive.extend_from_slice(bytes);
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
        archive.resize(archive.len() + 2 * BLOCK, 0);
        archive
    }

    #[test]
    fn files_are_found() {
        let archive = archive(&[("bin/", b'5', b""), ("bin/a", b'0', b"hello"), ("./b", b'0', &[1; 600])]);
        assert_eq!(find(&archive, "bin/a"), Some(&b"hello"[..]));
        assert_eq!(find(&archive, "b"), Some(&[1; 600][..]));
        assert_eq!(find(&archive, "c"), None);
        assert_eq!(files(&archive).count(), 2);
        assert_eq!(find(&archive[..600], "bin/a"), None);
    }

    proptest! {
        #[test]
        fn broken_archives_never_panic(at in 0usize..1100, byte: u8, cut in 0usize..2600) {
            let mut archive = archive(&[("a", b'0', b"x"), ("b", b'0', &[2; 600])]);
            archive[at] = byte;
            archive.truncate(cut);
            prop_assert!(files(&archive).count() <= 2);
        }
    }
}
