//! Levels of the locks above the machine. Locks are taken in ascending level, never two of one level.
//!
//! | level | lock | guards |
//! |---|---|---|
//! | [`OPENING`] | `object::registry` | which persistent objects are open: no object is opened while it is made or deleted |
//! | [`OBJECT`] | each `object::Object` | its page tree's root, reverse list, pins |
//! | [`VIEW`] | each `view::View` | its records and upper page-table entries |
//! | [`STORE`] | inside `twizzler-store` | the store's own tables |
//! | [`REGISTRY`] | `object::registry` | the table of open objects |
//! | [`GARBAGE`] | `object::garbage` | trees that are yet to be freed |
//! | [`SCHEDULER`] | `thread::scheduler` | run queues, waits, threads |
//!
//! User memory is copied, and `Arc`s that may be the last are dropped, under none of them but `OPENING`. The machine's own locks (heap, frames, serial ports) are above 40.

/// Opening, making and deleting persistent objects.
pub(crate) const OPENING: u8 = 5;
/// One object.
pub(crate) const OBJECT: u8 = 10;
/// One view.
pub(crate) const VIEW: u8 = 15;
/// The store's own.
pub(crate) const STORE: u8 = 20;
/// The table of open objects.
pub(crate) const REGISTRY: u8 = 25;
/// Trees of deleted objects.
pub(crate) const GARBAGE: u8 = 27;
/// Who runs.
pub(crate) const SCHEDULER: u8 = 30;
