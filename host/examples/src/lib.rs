//! Programs that keep their data in persistent objects: what the examples consist of.
#![forbid(unsafe_code)]

pub mod jobs;
pub mod server;

// The guide's code.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide.md")]
struct Guide;
