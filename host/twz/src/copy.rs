//! Copying what exists: of a sparse file, and of an object.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use indicatif::ProgressBar;
use rustix::fs::SeekFrom as Seeking;
use rustix::io::Errno;
use twizzler_abi::object::{HEADER_OFFSET, METADATA_OFFSET, Metadata};
use twizzler_abi::{Error, ObjId};
use zerocopy::IntoBytes;

use crate::medium::Medium;
use crate::object::{class_of, header, metadata};

/// Bytes that are copied at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// Copies what exists of a sparse file. Gives how many bytes that was.
///
/// # Errors
/// The host's.
pub fn sparse(mut from: &File, to: &mut File, bar: &ProgressBar) -> io::Result<u64> {
    let len = from.metadata()?.len();
    to.set_len(len)?;
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    let (mut at, mut copied) = (0, 0);
    while at < len {
        let start = match rustix::fs::seek(from, Seeking::Data(at)) {
            Ok(start) => start,
            // Nothing more but holes.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(from, Seeking::Hole(start))?;
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        at = start;
        while at < end {
            let part = &mut chunk[..(end - at).min(CHUNK_BYTES) as usize];
            from.read_exact(part)?;
            to.write_all(part)?;
            at += part.len() as u64;
            copied += part.len() as u64;
            bar.inc(part.len() as u64);
        }
    }
    Ok(copied)
}

/// Copies an object from one store to another, which does not have it. Nobody holds the copy's lock. Gives how many bytes that was.
///
/// # Errors
/// Those of either store.
pub fn object<M: Medium>(from: &M, to: &M, id: ObjId, bar: &ProgressBar) -> Result<u64, Error> {
    let found = metadata(from, id)?;
    let mut extension = vec![0; found.extension_bytes as usize];
    from.read_raw(id, METADATA_OFFSET + size_of::<Metadata>() as u64, &mut extension)?;
    to.make(&found, &extension, class_of(from, id)?)?;
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    let mut copied = 0;
    for extent in from.extents(id)? {
        let mut at = extent.start.max(HEADER_OFFSET);
        while at < extent.end {
            let part = &mut chunk[..(extent.end - at).min(CHUNK_BYTES) as usize];
            from.read_raw(id, at, part)?;
            to.write_raw(id, at, part)?;
            at += part.len() as u64;
            copied += part.len() as u64;
            bar.inc(part.len() as u64);
        }
    }
    let mut copy = header(to, id)?;
    copy.lock = 0;
    to.write_raw(id, HEADER_OFFSET, copy.as_bytes())?;
    to.publish(id)?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_not_copied() {
        let mut from = tempfile::tempfile().expect("temporary file");
        from.set_len(1 << 30).expect("sparse");
        from.seek(SeekFrom::Start(700 << 20)).expect("seek");
        from.write_all(&[7; 5000]).expect("write");
        let mut to = tempfile::tempfile().expect("temporary file");
        let copied = sparse(&from, &mut to, &ProgressBar::hidden()).expect("copy");
        assert!((5000..1 << 20).contains(&copied), "{copied} bytes copied");
        assert_eq!(to.metadata().expect("exists").len(), 1 << 30);
        let mut back = [0; 5002];
        to.seek(SeekFrom::Start((700 << 20) - 1)).expect("seek");
        to.read_exact(&mut back).expect("read");
        assert!(back[0] == 0 && back[5001] == 0 && back[1..5001].iter().all(|&byte| byte == 7));
    }
}
