//! What can go wrong when an object is opened as a type. Everything else is [`twizzler_abi::Error`].

use core::fmt;

use twizzler_abi::Error;
use twizzler_abi::object::TYPE_NAME_BYTES;

use crate::types::Difference;

/// Declared name of a type, as it lies in an object's header: a claim of whoever made the object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TypeName([u8; TYPE_NAME_BYTES]);

impl TypeName {
    /// An untyped object.
    pub const BYTES: Self = Self::of("bytes");

    /// The name in these bytes, padded with zeros.
    #[must_use]
    pub const fn new(bytes: [u8; TYPE_NAME_BYTES]) -> Self {
        Self(bytes)
    }

    /// A name; cut if it is too long.
    #[must_use]
    pub const fn of(name: &str) -> Self {
        let mut bytes = [0; TYPE_NAME_BYTES];
        let mut i = 0;
        while i < name.len() && i < TYPE_NAME_BYTES {
            bytes[i] = name.as_bytes()[i];
            i += 1;
        }
        Self(bytes)
    }

    /// The bytes, padded with zeros.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; TYPE_NAME_BYTES] {
        &self.0
    }
}

impl fmt::Display for TypeName {
    /// What is not printable ASCII shows as `?`: the name may be anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().take_while(|&&byte| byte != 0);
        for &byte in used {
            let shown = if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' };
            fmt::Write::write_char(f, shown)?;
        }
        Ok(())
    }
}

impl fmt::Debug for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why an object could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The object is of another type, or of another version of it.
    WrongType {
        /// The type it was to be opened as.
        wanted: &'static str,
        /// The type it was made with.
        found: TypeName,
        /// How they differ.
        difference: Difference,
    },
    /// Anything else.
    System(Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType { wanted, found, difference } => {
                write!(f, "wrong type: it holds {found}, not {wanted} of this version{difference}")
            }
            Self::System(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for OpenError {}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::WrongType { .. } => Self::WrongType,
            OpenError::System(error) => error,
        }
    }
}
