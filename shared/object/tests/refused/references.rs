//! A reference is an address in one run of one program.

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: &'static u64, //~ a reference can't lie in an object
    b: [&'static str; 2], //~ a reference can't lie in an object
}

fn main() {}
