//! Why a command failed.

use alloc::format;
use alloc::string::String;

use twizzler_abi::Error;
use twizzler_command::{Advise, advised};
use twizzler_rt::exit;

/// What a command that failed has to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// Its arguments make no sense.
    Usage,
    /// Anything else.
    Message {
        /// For people.
        text: String,
        /// The command's status.
        status: u64,
    },
}

impl Failure {
    /// A failure with the ordinary status.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self::Message { text: text.into(), status: exit::FAILURE }
    }

    /// For `map_err`: says what the error was about, and what to do.
    pub(super) fn of<E: Advise>(what: &str) -> impl FnOnce(E) -> Self {
        move |error| Self::new(format!("{what}: {}", advised(&error)))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(advised(&error))
    }
}

/// A command's status, or why it failed.
pub(super) type Outcome = Result<u64, Failure>;
