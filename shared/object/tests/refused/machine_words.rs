//! Machines differ in the size of `usize`.

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: usize, //~ its size depends on the machine
    b: isize, //~ its size depends on the machine
    c: [usize; 4], //~ its size depends on the machine
}

fn main() {}
