//! What can be wrong with a name.

use core::fmt;

use twizzler_abi::Error;

/// Why something could not be done with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// Nothing has this name.
    NoSuchName,
    /// Something has this name already.
    Exists,
    /// A name on the way stands for an object.
    NotADirectory,
    /// The name stands for a directory, where an object is asked for.
    IsADirectory,
    /// The directory has entries.
    NotEmpty,
    /// A name is longer than [`crate::NAME_BYTES_MAX`], or there are more than [`crate::PATH_NAMES_MAX`].
    TooLong,
    /// A name is empty, `.`, `..`, or holds a control character.
    BadName,
    /// A directory can't be moved into itself.
    IntoItself,
    /// A directory is in two directories, or in itself: somebody wrote what no change of names makes.
    Tangled,
    /// Anything else.
    System(Error),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchName => "no such name",
            Self::Exists => "name exists already",
            Self::NotADirectory => "not a directory",
            Self::IsADirectory => "is a directory",
            Self::NotEmpty => "directory is not empty",
            Self::TooLong => "name too long",
            Self::BadName => "a name can't be empty, '.' or '..', or hold control characters",
            Self::IntoItself => "a directory can't be moved into itself",
            Self::Tangled => "a directory is in two places, or in itself",
            Self::System(error) => return error.fmt(f),
        })
    }
}

impl core::error::Error for NameError {}

impl From<Error> for NameError {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}
