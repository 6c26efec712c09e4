//! Names: a persistent directory tree of objects.
//!
//! One object of well-known ID holds all names of the system, in an ordered map: the key is the number of a directory and
//! a name in it, the value says what the name stands for. So a path is looked up name by name, a directory is a range of the
//! map, and moving one changes one entry. Every change is part of a transaction: creating an object and naming it, or
//! deleting it with its name, happens wholly or not at all.
//!
//! Paths are UTF-8: names separated by `/`, a leading `/` makes no difference, the empty path is the root directory.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod entry;
mod error;
mod names;
mod path;
mod resolve;

pub use entry::Entry;
pub use error::NameError;
pub use names::Names;
pub use path::{NAME_BYTES_MAX, PATH_NAMES_MAX};
pub use resolve::resolve;
