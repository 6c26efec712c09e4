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
    /// Of a type that nobody described.
    pub const UNKNOWN: Self = Self::of("an unknown type");

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
    /// The object is of the type, but holds values of another version of one that the type leads to.
    HoldsOther {
        /// The type of which it holds another version than the program has.
        wanted: TypeName,
        /// How they differ.
        difference: Difference,
    },
    /// The pointer was made when its target was of another type.
    LeadsToOther {
        /// The type that its target was of.
        wanted: TypeName,
        /// The type that it is of.
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
                write!(f, "wrong type: it holds {found}, not {wanted} of this version{difference}")?;
                if *difference == Difference::Unknown && *found == TypeName::of(wanted) {
                    f.write_str("; if the program has not changed, a program built with the version of Twizzler that made it reads it")?;
                }
                Ok(())
            }
            Self::HoldsOther { wanted, difference } => {
                write!(f, "wrong type: what it holds of {wanted} is of another version than the program's")?;
                write!(f, "{difference}; see `Space::migrate`")
            }
            Self::LeadsToOther { wanted, found, difference } => {
                write!(
                    f,
                    "wrong type: the pointer leads to {found}, and was made to lead to {wanted}{difference}"
                )
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
            OpenError::WrongType { .. } | OpenError::HoldsOther { .. } | OpenError::LeadsToOther { .. } => {
                Self::WrongType
            }
            OpenError::System(error) => error,
        }
    }
}
