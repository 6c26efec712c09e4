//! The programming model: typed objects, invariant pointers, transactions, allocation, collections.
#![no_std]

extern crate alloc;
// The derive macros speak of the crate by its name, here too.
extern crate self as twizzler_object;

mod stored;

pub mod backend;
pub mod collections;
mod coordination;
mod cursor;
mod entries;
mod epoch;
mod error;
mod fot;
mod guard;
mod heap;
pub mod journal;
mod keeps;
mod lane;
mod lock;
mod memory;
mod migration;
mod pointer;
mod reader;
mod recent;
mod recover;
mod resolve;
mod row;
mod sink;
mod space;
mod spare;
mod tx;
pub mod types;
mod untrusted;
mod volatile;

pub use backend::{Backend, Commit, Sink, Ticket, Waited};
pub use cursor::Cursor;
pub use error::{OpenError, TypeName};
pub use fot::{Companion, LATE_NAME_BYTES_MAX, Resolver};
pub use guard::Guard;
pub use heap::{HeapFinding, HeapReport, HeapUsage, check_heap};
pub use keeps::{KEEPS_MAX, Keep};
pub use lane::{INTENTS_MAX, LANES_MAX};
pub use lock::Locked;
pub use migration::{Migrate, Migration};
pub use pointer::{Area, Bytes, InvBytes, InvPtr, InvSpan, Object, Ptr, Span};
pub use reader::Reader;
pub use recover::Recovery;
pub use resolve::{Meaning, Want, meaning_of};
pub use space::{Access, Space};
pub use stored::{Choice, Damaged, Field, Fingerprint, Flag, Stored, StoredEnum, Value};
pub use tx::{Tx, strike_used};
pub use untrusted::{Untrusted, Walk};

/// What the derive macros' code uses.
#[doc(hidden)]
pub mod __stored {
    pub use crate::stored::{Field, FieldShape, Fingerprint, Shape, Stored, StoredEnum, teach};
    pub use crate::stored::{no_drop_glue, no_gap_at_end_of, no_gap_before};
}
