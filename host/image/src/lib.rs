//! NVM images on a Linux host: media, and backends of the programming model.
//!
//! - [`MediaFile`]: an image file as persistent memory; [`ImageBackend`]: the programming model over it.
//! - [`MemoryBackend`]: objects in anonymous memory, for tests and measurements.

mod backend;
mod media;
mod memory;
mod raw;

pub use backend::{HostMutex, ImageBackend, Store};
pub use media::{MediaFile, Sharing};
pub use memory::MemoryBackend;
pub use twizzler_slots::Reserved;

/// The guide, whose examples are run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/programming.md")]
struct Guide;

/// The page on types, likewise.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/types.md")]
struct Types;

/// Collections, likewise.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/collections.md")]
struct Collections;
