//! Collections that lie in objects. Names and behaviour follow `std` where they can.
//!
//! Reading goes through any [`crate::Reader`], changing through a [`crate::Tx`]; a value that a collection takes out of an object
//! is a copy. Whatever lies on media may be wrong: that is [`twizzler_abi::Error::Damaged`], never a panic.

mod bulk;
mod node;
mod range;
mod tree;

pub use node::{KEY_BYTES_MAX, Node};
pub use range::Range;
pub use tree::{BytesMap, MapRoot, VALUE_BYTES_MAX};
