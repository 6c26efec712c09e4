//! What the native programs are made of.
//!
//! The parts that touch neither the kernel nor an object are plain functions, tested on the host: reading a
//! command line ([`shell::parse`]), editing one ([`line`]), archives ([`archive`]), and making text for
//! people ([`text`]). [`bundle`] is the file that `init`, `shell`, `index` and `kv` are.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
pub mod bench;
pub mod bundle;
pub mod init;
pub mod line;
pub mod selftest;
pub mod shell;
pub mod text;
