//! Host files that commands write: whole under their names, or not at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::status::{Failure, Status};

/// A file that gets its name when it is whole.
#[derive(Debug)]
pub struct Out {
    made: NamedTempFile,
    /// The file itself, where `path` is a link to it.
    path: PathBuf,
}

impl Out {
    /// Begins a file. One that has the name goes with `replace`, in the end.
    ///
    /// # Errors
    /// Something has the name and is not to be replaced, or is no regular file; the host's.
    pub fn new(path: &Path, replace: bool) -> Result<Self, Failure> {
        let there = path.symlink_metadata().is_ok();
        if there && !replace {
            return Err(Failure::new(Status::Conflict, format!("{} exists already", path.display()))
                .advise("give another file, or replace it with --force"));
        }
        let path = if there {
            path.canonicalize().map_err(|error| Failure::io(path, &error))?
        } else {
            path.to_owned()
        };
        if there && !path.is_file() {
            return Err(Failure::new(Status::Conflict, format!("{} is no regular file", path.display()))
                .advise("give another file; `-` is standard output, which can go anywhere"));
        }
        let folder = folder_of(&path);
        let made = tempfile::Builder::new()
            .prefix(".twz-")
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)
            .map_err(|error| Failure::io(folder, &error))?;
        Ok(Self { made, path })
    }

    /// What is written to.
    pub fn file(&mut self) -> &mut File {
        self.made.as_file_mut()
    }

    /// All is written: it is on the disk, and gets its name.
    ///
    /// # Errors
    /// The host's.
    pub fn finish(self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io(&self.path, &error);
        self.made.as_file().sync_all().map_err(failed)?;
        self.made.persist(&self.path).map(drop).map_err(|error| failed(error.error))
    }
}

/// The folder that a file lies in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
