//! Types with bit patterns that are no value.

use std::num::NonZeroU64;

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: NonZeroU64, //~ some of its bit patterns are no value
    b: Option<NonZeroU64>, //~ some of its bit patterns are no value
    c: Result<u64, u64>, //~ some of its bit patterns are no value
}

fn main() {}
