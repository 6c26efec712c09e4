//! Persistent objects in a Linux program: typed, pointer-rich data that is used where it lies, in a directory.
//!
//! [`Store::open`] opens a store, which several processes may have open at the same time. It derefs to the [`Space`] through which
//! objects are opened, read and changed in transactions: the programming model, the same as on Twizzler.
//!
//! An object is a sparse file whose bytes are the object's; programs work on it where it is mapped. What a committed transaction
//! survives is said by [`Durability`]. See `docs/hosted.md` for guarantees, layout and limits.

mod apply;
mod background;
mod commit;
mod disk;
mod error;
mod fork;
mod hosted;
mod limits;
mod log;
mod mapped;
mod medium;
mod objects;
mod open;
mod options;
mod persistence;
mod presence;
mod process;
mod raw;
mod recover;
mod room;
mod segment;
mod shared_lock;
mod sigbus;
mod store;
mod superblock;
mod sweep;

pub use disk::{Observer, Step};
pub use error::StoreError;
pub use hosted::HostedBackend;
pub use options::{Durability, Mode, Options};
pub use raw::{Alone, Description};
pub use recover::Replayed;
pub use store::Store;
pub use twizzler_abi::{Error, ObjId, Rights};
// These speak of this crate, so that it is all that a program depends on. They hide those of `twizzler_object`.
pub use twizzler_derive::{StoredEnumOfTwizzler as StoredEnum, StoredOfTwizzler as Stored};
pub use twizzler_names::{Entry, NameError, Names};
pub use twizzler_object::*;

/// The page on stores, whose example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/hosted.md")]
struct Guide;
