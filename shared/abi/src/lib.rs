//! The binary interface of Twizzler, written once.
//!
//! Everything that two sides must agree on lies here: object IDs and what they are made of ([`id`]),
//! rights and life ([`rights`]), the address map ([`address`]), the layout of an object and its
//! metadata ([`object`]), foreign object table entries and invariant pointers ([`pointer`]), view
//! entries ([`view`]), thread state ([`thread`]), the state that the kernel publishes ([`system`]),
//! calls ([`call`]) and errors ([`error`]).
//!
//! Layouts are `repr(C)`, little-endian, without padding, and asserted at compile time. Numbers are
//! explicit and converted fallibly; a retired number is never used again. The format of the NVM image
//! is deliberately elsewhere: in `twizzler-store`.
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod call;
pub mod error;
pub mod id;
pub mod object;
pub mod pointer;
pub mod rights;
pub mod system;
pub mod thread;
pub mod view;

pub use error::Error;
pub use id::ObjId;
pub use rights::{Durability, Life, Rights, SizeClass};
