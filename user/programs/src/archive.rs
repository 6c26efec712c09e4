//! The boot archive: ustar (POSIX.1-2017, pax, "ustar Interchange Format").

use alloc::string::String;
use alloc::vec::Vec;

/// Where a file lies in an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its path.
    pub name: String,
    /// Its first byte in the archive.
    pub offset: u64,
    /// Its bytes.
    pub len_bytes: u64,
}

const BLOCK: u64 = 512;

/// The ordinary files of an archive of `len_bytes`, of which `read` copies bytes, in order, and the links to files before them.
/// What makes no sense ends it.
pub fn files(len_bytes: u64, mut read: impl FnMut(u64, &mut [u8])) -> impl Iterator<Item = File> {
    let mut at = 0u64;
    let mut seen: Vec<File> = Vec::new();
    core::iter::from_fn(move || {
        loop {
            let offset = at.checked_add(BLOCK).filter(|&end| end <= len_bytes)?;
            let mut header = [0; BLOCK as usize];
            read(at, &mut header);
            if header[257..262] != *b"ustar" {
                return None;
            }
            let len = octal(&header[124..136])?;
            offset.checked_add(len).filter(|&end| end <= len_bytes)?;
            at = offset.checked_add(len.checked_next_multiple_of(BLOCK)?)?;
            let name = path(&header[..100])?;
            let file = match header[156] {
                b'0' | 0 => File { name: name.into(), offset, len_bytes: len },
                b'1' => {
                    let target = path(&header[157..257])?;
                    let target = seen.iter().find(|file| file.name == target)?;
                    File { name: name.into(), ..*target }
                }
                _ => continue,
            };
            seen.push(file.clone());
            return Some(file);
        }
    })
}

fn path(field: &[u8]) -> Option<&str> {
    Some(text(field)?.trim_start_matches("./"))
}

fn text(field: &[u8]) -> Option<&str> {
    core::str::from_utf8(field.split(|&byte| byte == 0).next()?).ok()
}

fn octal(field: &[u8]) -> Option<u64> {
    let digits = text(field)?.trim();
    u64::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;
    use proptest::prelude::*;

    fn archive(files: &[(&str, u8, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, kind, bytes) in files {
            let mut header = [0; BLOCK as usize];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
            header[156] = *kind;
            header[257..262].copy_from_slice(b"ustar");
            archive.extend_from_slice(&header);
            archive.extend_from_slice(bytes);
            archive.resize(archive.len().next_multiple_of(BLOCK as usize), 0);
        }
        archive.resize(archive.len() + 2 * BLOCK as usize, 0);
        archive
    }

    fn found(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let read = |at: u64, bytes: &mut [u8]| bytes.copy_from_slice(&archive[at as usize..][..bytes.len()]);
        files(archive.len() as u64, read)
            .map(|file| (file.name, archive[file.offset as usize..][..file.len_bytes as usize].to_vec()))
            .collect()
    }

    #[test]
    fn files_are_found() {
        let archive = archive(&[("bin/", b'5', b""), ("bin/a", b'0', b"hello"), ("./b", b'0', &[1; 600])]);
        assert_eq!(found(&archive), [("bin/a".into(), b"hello".to_vec()), ("b".into(), vec![1; 600])]);
        assert!(found(&archive[..1026]).is_empty());
    }

    #[test]
    fn links_lead_to_files_before_them() {
        let mut archive = archive(&[("a", b'0', b"hello"), ("b", b'1', b""), ("c", b'1', b"")]);
        archive[1024 + 157] = b'a';
        assert_eq!(found(&archive), [("a".into(), b"hello".to_vec()), ("b".into(), b"hello".to_vec())]);
    }

    proptest! {
        #[test]
        fn broken_archives_never_panic(at in 0usize..1100, byte: u8, cut in 0usize..2600) {
            let mut archive = archive(&[("a", b'0', b"x"), ("b", b'0', &[2; 600])]);
            archive[at] = byte;
            archive.truncate(cut);
            prop_assert!(found(&archive).len() <= 2);
        }
    }
}
