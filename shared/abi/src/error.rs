//! What can go wrong in a call, by what the caller can do about it.

use core::fmt;

macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// A failed call's reason. The number travels in RAX; 0 is success.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u32)]
        #[non_exhaustive]
        pub enum Error { $($(#[doc = $doc])+ $name = $number,)+ }

        impl Error {
            /// All errors, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// One line that says what was wrong.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The error of a number, if there is one.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

errors! {
    /// An argument has no meaning for this call.
    InvalidArgument = 1, "invalid argument";
    /// No call has this number.
    NoSuchCall = 2, "no such call";
    /// A pointer that was passed is not mapped with the rights that the call needs.
    BadAddress = 3, "bad address";
    /// No object has this ID, or it has been deleted.
    NoSuchObject = 4, "no such object";
    /// The object exists, the right does not.
    AccessDenied = 5, "access denied";
    /// An object with this ID exists already.
    Exists = 6, "already exists";
    /// No DRAM left, or the budget is spent.
    OutOfMemory = 7, "out of memory";
    /// No NVM left, or the budget is spent.
    OutOfNvm = 8, "out of NVM";
    /// Beyond the object's range, or not within the part that may be used so.
    OutOfRange = 9, "out of range";
    /// What lies on media fails its checks; the object is quarantined.
    Damaged = 10, "damaged";
    /// The media can't be read there.
    Unreadable = 11, "unreadable media";
    /// In use in a way that excludes this call.
    Busy = 12, "busy";
    /// The time given has passed.
    TimedOut = 13, "timed out";
    /// The thread was told to stop waiting.
    Interrupted = 14, "interrupted";
    /// Meaningful, but not built.
    NotSupported = 15, "not supported";
    /// There is no NVM in this machine, or it could not be mounted.
    NoNvm = 16, "no NVM";
    /// The kernel's table of such things is full.
    TooMany = 17, "too many";
    /// The object is of another type, version or kind.
    WrongType = 18, "wrong type";
    /// The store is open for reading only.
    ReadOnly = 19, "read-only";
    /// Too long for what is to hold it.
    TooLong = 20, "too long";
    /// The thread is in a transaction already.
    Nested = 21, "in a transaction already: use a savepoint of that";
    /// No object has the name that a pointer leads to.
    NoSuchName = 22, "no such name";
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

/// The number is no error's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownError(pub u32);

impl TryFrom<u32> for Error {
    type Error = UnknownError;

    fn try_from(number: u32) -> Result<Self, UnknownError> {
        Self::from_number(number).ok_or(UnknownError(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct_and_convert_back() {
        for (i, &e) in Error::ALL.iter().enumerate() {
            assert_eq!(Error::try_from(e as u32), Ok(e));
            assert!(Error::ALL[..i].iter().all(|&other| other as u32 != e as u32));
        }
        assert_eq!(Error::try_from(0), Err(UnknownError(0)));
    }
}
