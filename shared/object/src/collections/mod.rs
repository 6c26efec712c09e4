//! Collections that lie in objects. Names and behaviour follow `std` where they can.
//!
//! Reading goes through any [`crate::Reader`], changing through a [`crate::Tx`]; a value that a collection takes out of an object
//! is a copy. Whatever lies on media may be wrong: that is [`twizzler_abi::Error::Damaged`], never a panic.

mod by_target;
mod chunks;
pub(crate) mod entries;
pub mod entry;
mod hash;
mod hash_bytes;
mod hash_map;
mod list;
pub mod log;
pub mod ordered;
mod owned;
mod queue;
mod raw;
mod table;
mod text;
mod vector;

pub use by_target::{PointerHashMap, PointerMap, PointerOrderedMap};
pub use hash_map::{HashMap, HashMapRoot};
pub use list::{List, ListNode, ListRoot};
pub use log::{Log, LogRoot};
pub use ordered::{BytesMap, KEY_BYTES_MAX, MapRoot, OrderedMap, OrderedMapRoot, VALUE_BYTES_MAX};
pub use owned::{InvBox, InvRc, InvWeak};
pub use queue::{Queue, QueueRoot};
pub use text::{Text, TextRoot};
pub use vector::{Vector, VectorRoot};
