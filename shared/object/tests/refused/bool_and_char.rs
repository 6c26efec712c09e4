//! A byte that is neither 0 nor 1 is no `bool`; most numbers are no `char`.

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: bool, //~ a `bool` can't lie in an object
    b: [bool; 7], //~ a `bool` can't lie in an object
    c: char, //~ a `char` can't lie in an object
    d: u32,
}

fn main() {}
