//! What commands over persistent objects have in common: where they write, how they complain, what their statuses mean.
//!
//! A command is a library: a function of a space, its arguments and its [`Streams`]. So it runs on Twizzler, on Linux and in
//! tests alike. [`run`] is the frame around it; [`Complaint`]s say what was wrong and, by [`Advise`], what to do;
//! [`harness`] runs commands as tests need them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod advise;
mod complaint;
pub mod harness;
mod objects;

pub use advise::{Advise, advised};
pub use complaint::{Complaint, Streams, run};
pub use objects::{object_named, open_named, open_or_create_named, read_file};
