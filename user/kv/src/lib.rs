//! An ordered key-value store for byte strings, in a persistent object.
//!
//! A store is one object: a [`StoreRoot`] with a [`BytesMap`]. Each command is one transaction, so what has returned
//! survives a power cut, and what was cut off has happened wholly or not at all.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod lines;
mod run;
mod store;

pub use lines::{BadLine, Lines};
pub use run::{USAGE, run};
pub use twizzler_command::Streams;

pub use store::{LoadError, Stat, Store, StoreRoot};
