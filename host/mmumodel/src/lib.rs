//! A model of the MMU: TLBs and paging-structure caches with delayed invalidation.
//!
//! Emulators walk the tables or flush eagerly, and hide just those bugs that real machines show: a
//! translation that lives on after its page was freed, a cached table frame that has become data. Here each
//! [`Cpu`] caches whatever it came by, for each PCID, and forgets only what it is told to, while it reads
//! real x86 tables from [`twizzler_pmem::Persist`] memory. [`Machine::check_coherent`] then says whether any CPU
//! could still act on something that is no longer so.
//!
//! Not modelled: memory types, global pages, 5-level paging, protection keys, nested paging.
#![forbid(unsafe_code)]

pub mod entry;

mod cpu;
mod machine;
mod physical;
mod walk;

pub use cpu::{Cached, Cpu, Keep, Pcid};
pub use machine::{Machine, Stale};
pub use physical::{Physical, Region};
pub use walk::{Fault, Page, Table, Walk, walk};
