//! The programming model: typed objects, invariant pointers, transactions, allocation, collections.
#![no_std]

extern crate alloc;

pub mod backend;
mod memory;
mod pointer;
mod reader;
mod stored;

pub use backend::Backend;
pub use pointer::{Area, Bytes, InvBytes, InvPtr, InvSpan, Object, Ptr, Span};
pub use reader::Reader;
pub use stored::{Field, Fingerprint, Stored, Value};
