//! Nobody drops what lies in an object.

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder { //~ `Holder` implements `Drop`
    a: u64,
}

impl Drop for Holder {
    fn drop(&mut self) {}
}

fn main() {}
