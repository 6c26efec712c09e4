//! So is a raw pointer.

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: *const u64, //~ a raw pointer can't lie in an object
    b: *mut u8, //~ a raw pointer can't lie in an object
}

fn main() {}
