//! Runtime of native programs.
//!
//! What every program stands on: the start of a program ([`program!`], [`args`]), the calls ([`call`]), the
//! console ([`console`], [`print!`], [`eprint!`]), the heap, slots and mappings of the program's view
//! ([`slots`], [`mapping`]), objects as files ([`file`]), the clock and other things that the kernel publishes
//! ([`system`]), threads and locks ([`thread`], [`sync`]), other programs ([`process`]), and fault handlers
//! ([`upcall`]).
//!
//! All memory of objects may change under a program's feet: others map it too. So it is never seen as a
//! reference; the module `memory` copies it and loads its words, and is the one file that does so.
//!
//! On a host, the crate compiles so that what stands on it can be checked and tested there; its calls do
//! nothing useful.
#![no_std]

extern crate alloc;

pub mod args;
mod backend;
pub mod call;
pub mod console;
mod coordination;
pub mod exit;
pub mod file;
mod heap;
pub mod mapping;
mod memory;
pub mod persist;
pub mod process;
pub mod slots;
mod stack;
mod start;
pub mod startup;
pub mod sync;
mod syscall;
pub mod system;
pub mod thread;
pub mod upcall;

pub use backend::Rt;
pub use exit::exit;
pub use syscall::raw;
pub use twizzler_abi as abi;

#[doc(hidden)]
pub use alloc::format as __format;
