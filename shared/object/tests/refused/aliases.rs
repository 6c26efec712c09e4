//! The looks of a type don't matter, the type does.

use twizzler_object::{InvPtr, Stored};

type Harmless = bool;
type Counter = usize;
struct Forgotten {
    _a: u64,
}

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: Harmless, //~ can't lie in an object
    b: Counter, //~ can't lie in an object
    c: Forgotten, //~ can't lie in an object
    d: InvPtr<Forgotten>, //~ can't lie in an object
}

fn main() {}
