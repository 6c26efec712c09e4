//! The programming model: typed objects, invariant pointers, transactions, allocation, collections.
#![no_std]

extern crate alloc;

#[macro_use]
mod stored;

pub mod backend;
pub mod collections;
mod error;
mod heap;
mod journal;
mod lane;
mod lock;
mod memory;
mod pointer;
mod reader;
mod recover;
mod space;
mod tx;

pub use backend::Backend;
pub use error::{OpenError, TypeName};
pub use heap::HeapUsage;
pub use lane::{INTENTS_MAX, LANES_MAX};
pub use lock::Locked;
pub use pointer::{Area, Bytes, InvBytes, InvPtr, InvSpan, Object, Ptr, Span};
pub use reader::Reader;
pub use recover::Recovery;
pub use space::{Access, Space};
pub use stored::{Field, Fingerprint, Stored, Value};
pub use tx::Tx;
