//! Collections whose content lies on the program's heap.

use std::collections::HashMap;

use twizzler_object::{InvPtr, Stored};

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: Vec<u8>, //~ its content lies on this program's heap
    b: String, //~ its content lies on this program's heap
    c: HashMap<u64, u64>, //~ its content lies on this program's heap
    d: InvPtr<String>, //~ can't lie in an object
}

fn main() {}
