//! Borrows end; what is stored stays.

use twizzler_object::{Ptr, Stored};

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder<'g> { //~ a stored type has no lifetimes
    a: Ptr<'g, u64>,
}

fn main() {}
