//! Why a store can't be opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use twizzler_abi::Error;

use crate::options::Durability;

/// Why a store can't be opened or made. Each case can be told from the others, because each asks for something else to be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// There is nothing at this path.
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// What is at this path is no directory.
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory holds something, but no store.
    NotAStore {
        /// The path.
        path: PathBuf,
    },
    /// A store was to be made, and one is there.
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A store was to be made, and the directory holds other things.
    NotEmpty {
        /// The path.
        path: PathBuf,
    },
    /// The store was made by a later version, which changed what this one relies on.
    Newer {
        /// The store's version.
        version: u32,
        /// Features that this version doesn't know and must know, to do what was asked.
        features: u32,
    },
    /// The store's own description is spoiled. Objects and log are as they were.
    Damaged {
        /// What failed its check.
        what: &'static str,
    },
    /// The store lies on a file system over a network, whose other clients would not see what is written here in time.
    Network {
        /// Magic number of the file system (`statfs`).
        magic: u64,
    },
    /// The file system can't do what a store needs.
    Unsuitable {
        /// What it lacks.
        what: &'static str,
    },
    /// The file system, or the file, can't be written. [`crate::Mode::Read`] may do.
    ReadOnly,
    /// The store was not closed in order, and who may only read can't put it right. Open it for writing once.
    NeedsRecovery,
    /// Other processes have the store open at this moment, and this one can't share it with them.
    InUse {
        /// Why not.
        why: &'static str,
    },
    /// The store's durability is another one than asked for.
    Durability {
        /// What the store has.
        store: Durability,
        /// What was asked for.
        asked: Durability,
    },
    /// The machine went down while the store was open for [`Durability::ProcessKill`]: what is left may be anything.
    Lost,
    /// Not as large as it must be.
    TooSmall {
        /// What.
        what: &'static str,
        /// Bytes at least.
        bytes_min: u64,
    },
    /// The programming model says no.
    System(Error),
    /// The host says no.
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the host says.
        source: io::Error,
    },
}

impl StoreError {
    /// For `map_err`: what was tried, and on what.
    pub(crate) fn io<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| {
            let source: io::Error = error.into();
            if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
                Self::ReadOnly
            } else {
                Self::Io { what, path, source }
            }
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "{}: no such store", path.display()),
            Self::NotADirectory { path } => {
                write!(f, "{}: not a directory; a store is a directory", path.display())
            }
            Self::NotAStore { path } => write!(f, "{}: not a store", path.display()),
            Self::Exists { path } => write!(f, "{}: there is a store already", path.display()),
            Self::NotEmpty { path } => write!(f, "{}: not empty, and not a store", path.display()),
            Self::Newer { version, features } => write!(
                f,
                "the store was made by a later version (format {version}, unknown features {features:#x})"
            ),
            Self::Damaged { what } => write!(f, "the store is damaged: {what}"),
            Self::Network { magic } => {
                write!(
                    f,
                    "a store can't lie on a network file system ({magic:#x}): other machines would not see its memory"
                )
            }
            Self::Unsuitable { what } => write!(f, "the file system is unsuitable: {what}"),
            Self::ReadOnly => f.write_str("the store can't be written; it can be opened for reading"),
            Self::NeedsRecovery => {
                f.write_str("the store was not closed in order; open it for writing once")
            }
            Self::InUse { why } => write!(f, "the store is in use: {why}"),
            Self::Durability { store, asked } => {
                write!(f, "the store's durability is {store:?}, not {asked:?}")
            }
            Self::Lost => f.write_str(
                "the machine went down while the store was open for ProcessKill: its content can't be trusted",
            ),
            Self::TooSmall { what, bytes_min } => {
                write!(f, "{what}: at least {bytes_min} bytes are needed")
            }
            Self::System(error) => error.fmt(f),
            Self::Io { what, path, source } => write!(f, "{what} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}
