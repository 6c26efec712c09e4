//! NVM images on a Linux host: media, and backends of the programming model.
//!
//! [`MemoryBackend`] keeps objects in anonymous memory, for tests.

mod memory;
mod slots;

pub use memory::MemoryBackend;
pub use slots::Reserved;
