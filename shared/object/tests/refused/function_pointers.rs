//! Code lies elsewhere in every program.

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: fn(u64) -> u64, //~ a function pointer can't lie in an object
}

#[derive(Stored)]
#[stored(name = "test.other", version = 1)]
#[repr(C)]
struct Other {
    a: Box<dyn Fn()>, //~ holds an address
}

fn main() {}
