//! An inverted index over texts, in persistent objects.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod append;
mod base;
mod build;
mod catalog;
mod cursor;
mod gather;
mod index;
mod merge;
mod node;
mod pool;
mod postings;
mod query;
mod record;
mod run;
mod segment;
mod varint;
mod words;

pub use base::{IndexRoot, PART_FINGERPRINTS};
pub use index::{Added, Failure, Index, Refusal, Texts};
pub use query::{Hit, Lines, Stat};
pub use run::{INDEX_NAME, USAGE, run};
pub use segment::{Document, NAME_BYTES_MAX};
pub use twizzler_command::Streams;
pub use words::{NotUtf8, Words, normalise};
