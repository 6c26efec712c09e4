//! Reads ELF programs and plans how they are mapped.
//!
//! A native program is a static ELF64 file for x86-64, linked to the band's text and data slots from
//! their bases + 0x3000 on. [`Plan::new`] checks everything that the file claims and says which bytes go
//! where in two objects: *text* (mapped for reading and execution) and *data* (mapped for reading and
//! writing). What makes the objects, copies the bytes and starts the thread is deliberately elsewhere:
//! the kernel does it for `init`, the runtime for every other program.
//!
//! The file is not trusted: no input makes this crate panic, allocate, or plan outside the two slots.
#![no_std]
#![forbid(unsafe_code)]

mod error;
mod plan;

pub use error::LoadError;
pub use plan::{HEAD_BYTES, Part, Plan, SEGMENTS_MAX, Segment};
