//! Where commits become durable: in lanes, by flushes and fences; or in a log that the backend keeps.

use twizzler_abi::ObjId;

/// How a backend makes commits durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sink {
    /// Object memory is the media: what is flushed and fenced is durable. The record goes to a lane, and this crate recovers it.
    #[default]
    Lanes,
    /// Object memory is a cache of the media that may be written back at any moment, as mapped files are. Then nothing that is not
    /// committed is ever stored to an object that existed before the transaction; the record goes to [`crate::Backend::log`], and
    /// recovery is the backend's, with [`crate::journal`].
    Log,
}

/// What is to become durable, all or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The record, for [`crate::journal::Record::decode`] with the seed [`crate::journal::LOG_SEED`].
    pub words: &'a [u64],
    /// Objects that the transaction made by [`crate::Backend::create`] and that are to exist from [`crate::Backend::publish_created`] on. What they were made of is in the record as
    /// well, and so is what was written to them, but for ranges that were given to [`crate::Backend::sync`].
    pub created: &'a [ObjId],
}

/// A record in the log, to be handed to [`crate::Backend::applied`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Ticket {
    /// The backend's own.
    pub number: u64,
    /// Where the record ends in the log's order, for [`crate::Backend::durable`].
    pub end: u64,
}
