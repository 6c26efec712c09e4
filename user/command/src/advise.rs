//! What people can do about errors.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;

use twizzler_abi::Error;
use twizzler_names::NameError;

/// An error that may know what to do about it.
pub trait Advise: Display {
    /// What to do, as the second half of a sentence, where that isn't plain.
    fn advice(&self) -> Option<&'static str>;
}

/// The error, and what to do about it.
pub fn advised(error: &(impl Advise + ?Sized)) -> String {
    match error.advice() {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

impl Advise for Error {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::OutOfMemory => "end other programs, or start with more memory (`--memory`)",
            Self::OutOfNvm => "`rm` what is not needed; `nvm` tells how much is free",
            Self::OutOfRange => "an object holds 1 GiB at most",
            Self::NoSuchObject => "it was deleted; `rm` takes away a name that is left",
            Self::AccessDenied => "`show` tells the rights that the object grants",
            Self::Damaged | Self::Unreadable => "`quarantine` lists what is damaged; the rest can be used",
            Self::Busy => "another program holds it; try again when that is done",
            Self::NoNvm => "`nvm` tells why",
            Self::WrongType => "`show` tells the object's type",
            Self::TooMany => "unmap or delete some first",
            _ => return None,
        })
    }
}

impl Advise for NameError {
    fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoSuchName => "`ls` and `tree` list the names",
            Self::Exists => "choose another, or `rm` that one first",
            Self::NotADirectory => "only directories have names below them",
            Self::IsADirectory => "name what is in it: `ls` lists that",
            Self::NotEmpty => "`rm -r` removes it with all that is in it",
            Self::TooLong => "a name has 255 bytes at most, a path 64 names",
            Self::BadName | Self::IntoItself => "choose another",
            Self::Tangled => return Error::Damaged.advice(),
            Self::System(error) => return error.advice(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_that_are_told_are_those_that_hold() {
        let advice = NameError::TooLong.advice().expect("there is advice");
        assert!(advice.contains(&twizzler_names::NAME_BYTES_MAX.to_string()), "{advice}");
        assert!(advice.contains(&twizzler_names::PATH_NAMES_MAX.to_string()), "{advice}");
    }

    #[test]
    fn advice_follows_the_error() {
        let text = advised(&NameError::from(Error::NoNvm));
        assert_eq!(text, "no NVM; `nvm` tells why");
        assert_eq!(advised(&Error::TimedOut), "timed out");
    }
}
