//! Programs that keep their data in persistent objects: what the examples consist of.
#![forbid(unsafe_code)]

pub mod server;
