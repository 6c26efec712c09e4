//! An enum that was not declared as stored.

use twizzler_object::{Choice, Stored};

enum Colour {
    Red,
}

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: Choice<Colour>, //~ `Colour` is not an enum that can be stored
}

fn main() {}
