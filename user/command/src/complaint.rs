//! The frame around a command.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Display;

use twizzler_abi::Error;

use crate::advise::{Advise, advised};

/// Where a command's output and messages go.
pub struct Streams<'a> {
    /// Output.
    pub out: &'a mut dyn FnMut(&[u8]),
    /// Messages.
    pub err: &'a mut dyn FnMut(&[u8]),
}

/// What a command that failed says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Complaint {
    /// It was used wrongly: how to use it.
    Usage(&'static str),
    /// What was wrong, and what to do.
    Message(String),
}

impl Complaint {
    /// A complaint.
    pub fn new(text: impl Into<String>) -> Self {
        Self::Message(text.into())
    }

    /// A complaint about something.
    pub fn of(what: &str, wrong: impl Display) -> Self {
        Self::new(format!("{what}: {wrong}"))
    }

    /// What is wrong with something by its error, and what to do about it.
    pub fn error(what: &str, error: impl Advise) -> Self {
        Self::of(what, advised(&error))
    }
}

impl From<Error> for Complaint {
    fn from(error: Error) -> Self {
        Self::new(advised(&error))
    }
}

/// Runs the command of that name. Gives the exit status: 0 done, 1 not done, 2 wrong usage; a complaint goes to the messages.
pub fn run(
    name: &str,
    streams: &mut Streams<'_>,
    command: impl FnOnce(&mut Streams<'_>) -> Result<(), Complaint>,
) -> u8 {
    let (text, status) = match command(streams) {
        Ok(()) => return 0,
        Err(Complaint::Usage(usage)) => (usage.to_string(), 2),
        Err(Complaint::Message(text)) => (format!("{name}: {text}\n"), 1),
    };
    (streams.err)(text.as_bytes());
    status
}
