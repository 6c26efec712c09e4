//! What can go wrong once a store is mounted. Mounting has its own error, [`crate::MountError`].

use core::fmt;

use twizzler_abi::Error as CallError;

/// Why an operation failed, by what the caller can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No frame is left (NVM, or DRAM for volatile objects), or only the reserve for deleting.
    OutOfFrames,
    /// The heap can't hold what the store keeps in DRAM.
    OutOfMemory,
    /// No object has this ID.
    NoSuchObject,
    /// An object with this ID exists.
    Exists,
    /// What lies on media fails its checks.
    Damaged,
    /// The media can't be read there.
    Unreadable,
    /// The page is forbidden: the null page, or one that was made so.
    Forbidden,
    /// The tree does not reach that page yet: see [`crate::Store::extend`] and [`crate::tree::Tree::raise`].
    Beyond,
    /// Not within the object's range.
    OutOfRange,
    /// Meaningful, but not built: links, copy-on-write.
    NotSupported,
    /// The object has a type already.
    WrongType,
    /// The store is open for reading only.
    ReadOnly,
    /// An argument has no meaning.
    InvalidArgument,
    /// The object table can't take an object with this ID: too many share its first bits.
    TooMany,
}

impl Error {
    /// One line that says what was wrong.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OutOfFrames => "no free frame",
            Self::OutOfMemory => "out of memory",
            Self::NoSuchObject => "no such object",
            Self::Exists => "already exists",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable media",
            Self::Forbidden => "forbidden page",
            Self::Beyond => "beyond the tree's reach",
            Self::OutOfRange => "out of the object's range",
            Self::NotSupported => "not supported",
            Self::WrongType => "has a type already",
            Self::ReadOnly => "read-only",
            Self::InvalidArgument => "invalid argument",
            Self::TooMany => "too many objects with such an ID",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

/// As a call reports it, for persistent objects: whoever works on DRAM frames reports
/// [`Error::OutOfFrames`] as out of memory.
impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::OutOfFrames => Self::OutOfNvm,
            Error::OutOfMemory => Self::OutOfMemory,
            Error::NoSuchObject => Self::NoSuchObject,
            Error::Exists => Self::Exists,
            Error::Damaged => Self::Damaged,
            Error::Unreadable => Self::Unreadable,
            Error::Forbidden | Error::Beyond | Error::OutOfRange => Self::OutOfRange,
            Error::NotSupported => Self::NotSupported,
            Error::WrongType => Self::WrongType,
            Error::ReadOnly => Self::ReadOnly,
            Error::InvalidArgument => Self::InvalidArgument,
            Error::TooMany => Self::TooMany,
        }
    }
}
