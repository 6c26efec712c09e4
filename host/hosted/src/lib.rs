//! Persistent objects in a Linux program: typed, pointer-rich data that is used where it lies, in a directory.
//!
//! ```
//! use twizzler::{Access, Error, InvBytes, InvPtr, NameError, Names, Reader, Stored};
//! # use twizzler::{Durability, Options};
//!
//! /// What lies in objects is declared. An `InvPtr` leads to anything in this object or in another one.
//! #[derive(Stored)]
//! #[stored(name = "example.letter", version = 1)]
//! #[repr(C)]
//! struct Letter {
//!     answers: InvPtr<Letter>,
//!     text: InvBytes,
//! }
//!
//! # let folder = tempfile::tempdir()?;
//! # let store = Options::new().durability(Durability::ProcessKill).create(folder.path().join("letters"))?;
//! // let store = twizzler::Store::open_or_create("letters")?; // a directory; other processes may open it too
//! let guard = store.enter(); // what is resolved stays mapped while the guard lives
//! let names = Names::open(&guard)?;
//! guard.transact(|tx| {
//!     // All of this happens, and is durable then, or nothing.
//!     let (first, second) = (names.create::<Letter>(tx, "first")?.base(), tx.create::<Letter>()?.base());
//!     let text = tx.alloc_bytes(first.object(), b"Dear reader")?;
//!     tx.link_span(first.at(Letter::text), text)?;
//!     tx.link(first.at(Letter::answers), Some(second))?;
//!     Ok::<_, NameError>(())
//! })?;
//!
//! // Here, in another process, or after a reboot:
//! let first = guard.open::<Letter>(names.object("first")?, Access::Read)?.base();
//! assert_eq!(guard.to_vec(guard.follow_span(first.at(Letter::text))?), b"Dear reader");
//! let second = guard.follow(first.at(Letter::answers))?.ok_or(Error::Damaged)?;
//! assert!(guard.follow(second.at(Letter::answers))?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Store::open`] opens a store and derefs to its [`Space`], through which objects are opened, read and changed: the programming model, the
//! same as on Twizzler. [`collections`] has vectors, maps, lists, logs and queues. What a committed transaction survives is said by
//! [`Durability`]. More: `docs/tutorial.md`, `docs/guide.md`, and `docs/hosted.md` for guarantees, layout and limits.

mod apply;
mod background;
mod commit;
mod disk;
mod error;
mod extent;
mod fork;
mod hosted;
mod limits;
mod log;
mod making;
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
mod stream;
mod superblock;
mod sweep;

pub use disk::{Observer, Step};
pub use error::StoreError;
pub use hosted::HostedBackend;
pub use options::{Durability, Mode, Options};
pub use raw::{Alone, Description};
pub use recover::Replayed;
pub use sigbus::survive_file_size_limits;
pub use store::Store;
#[doc(hidden)]
pub use stream::stream;
pub use twizzler_abi::{Error, ObjId, Rights};
// These speak of this crate, so that it is all that a program depends on. They hide those of `twizzler_object`.
pub use twizzler_derive::{StoredEnumOfTwizzler as StoredEnum, StoredOfTwizzler as Stored};
pub use twizzler_names::{Entry, NameError, Names};
pub use twizzler_object::*;

/// The page on stores, whose example is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/hosted.md")]
struct Guide;
