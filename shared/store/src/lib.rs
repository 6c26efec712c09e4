//! The on-NVM format: page trees, object table, mount and check. ◆ Design, sections 5 and 6; `docs/format.md`.
//!
//! - [`entry`]: the words of page trees, as the MMU and recovery read them.
//! - [`frames`]: the interface to memory; [`nvm`]: NVM behind it, with its allocator.
//! - [`tree`]: what one can do with an object's page tree, in NVM or DRAM.
//! - [`Store`]: all persistent objects of a region: create, delete, open, list, mount, check.
//!
//! Nothing here knows how memory is mapped, what a CPU caches or who holds which lock on an object: the caller of
//! a tree operation holds the object's lock as the operation says, and is asked through
//! [`tree::Invalidate`] to make CPUs forget what was unlinked.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod check;
pub mod entry;
mod error;
mod format;
pub mod frames;
mod mount;
pub mod nvm;
mod relocate;
mod store;
mod superblock;
mod survey;
mod table;
pub mod tree;

pub use check::CheckReport;
pub use error::Error;
pub use format::{FormatOptions, MIN_BYTES};
pub use frames::{FrameKind, FrameNo, Frames, Need, OutOfFrames};
pub use mount::{Access, MountError, MountOptions, MountReport};
pub use nvm::{Counts, Nvm};
pub use store::{Opened, Stat, Store};
pub use superblock::VERSION;
pub use survey::Quarantined;
pub use tree::{Batch, Filled, Found, Invalidate, Root, Stale, Tree, Unmapped, Usage};
