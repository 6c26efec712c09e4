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
    /// Whatever has the name in the end goes.
    replaces: bool,
}

impl Out {
    /// Begins a file. One that has the name goes with `replace`, in the end.
    ///
    /// # Errors
    /// Something has the name and is not to be replaced, or is no regular file; the host's.
    pub fn new(path: &Path, replace: bool) -> Result<Self, Failure> {
        let there = path.symlink_metadata().is_ok();
        if there && !replace {
            return Err(taken(path));
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
        Ok(Self { made, path, replaces: replace })
    }

    /// What is written to.
    pub fn file(&mut self) -> &mut File {
        self.made.as_file_mut()
    }

    /// All is written: it is on the disk, and gets its name.
    ///
    /// # Errors
    /// Something got the name meanwhile, and is not to be replaced; the host's.
    pub fn finish(self) -> Result<(), Failure> {
        let Self { made, path, replaces } = self;
        made.as_file().sync_all().map_err(|error| Failure::io(&path, &error))?;
        let named = if replaces { made.persist(&path) } else { made.persist_noclobber(&path) };
        named.map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => taken(&path),
            _ => Failure::io(&path, &error.error),
        })?;
        sync_folder_of(&path)
    }
}

fn taken(path: &Path) -> Failure {
    Failure::new(Status::Conflict, format!("{} exists already", path.display()))
        .advise("give another file, or replace it with --force")
}

/// Makes the names durable in the folder that a file lies in.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), Failure> {
    let folder = folder_of(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Failure::io(folder, &error))
}

/// The folder that a file lies in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
