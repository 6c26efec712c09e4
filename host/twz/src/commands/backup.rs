//! `backup`: a copy of a whole store, which is a store itself.
//!
//! It takes the room that the store's content takes, and appears under its name only when it is whole and on the disk.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use rustix::fs::SeekFrom as Seeking;
use rustix::io::Errno;
use serde::Serialize;

use crate::answer::Answer;
use crate::open::{Place, lock_image, place_of};
use crate::progress;
use crate::size::Bytes;
use crate::status::{Failure, Status};

/// Bytes that are copied at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// Arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
    /// The copy to make: nothing must be there yet
    pub copy: PathBuf,
}

#[derive(Clone, Debug, Serialize)]
struct Copied {
    copy: PathBuf,
    copied_bytes: u64,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} copied", self.copy.display(), Bytes(self.copied_bytes))
    }
}

/// `backup`.
///
/// # Errors
/// The copy exists; the host's: nothing is left of the copy then.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let Arguments { store, copy } = arguments;
    let place = place_of(store)?;
    if copy.symlink_metadata().is_ok() {
        return Err(Failure::new(Status::Conflict, format!("{} exists already", copy.display()))
            .advise("give the copy a name that is not taken"));
    }
    let copied_bytes = match place {
        Place::Image => image(store, copy)?,
        Place::Directory => {
            return Err(Failure::new(
                Status::Damaged,
                format!("{}: is a directory, not a store", store.display()),
            ));
        }
    };
    Ok(Answer::of(&Copied { copy: copy.clone(), copied_bytes }))
}

fn image(store: &Path, copy: &Path) -> Result<u64, Failure> {
    let from = lock_image(store, false)?;
    drop(crate::open::open_image(store, crate::open::For::Reading, crate::open::Lock::Held)?);
    let folder = copy.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut made = tempfile::Builder::new()
        .prefix(".twz-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|error| Failure::io(folder, &error))?;
    let bar = progress::of_bytes(stored_bytes(&from), "Copying");
    let copied = sparse(&from, made.as_file_mut(), &bar).map_err(|error| Failure::io(copy, &error))?;
    bar.finish_and_clear();
    made.as_file().sync_all().map_err(|error| Failure::io(copy, &error))?;
    made.persist_noclobber(copy).map_err(|error| Failure::io(copy, &error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Failure::io(folder, &error))?;
    Ok(copied)
}

/// Bytes that a file takes on the disk.
fn stored_bytes(file: &File) -> u64 {
    file.metadata().map_or(0, |about| std::os::unix::fs::MetadataExt::blocks(&about) * 512)
}

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
