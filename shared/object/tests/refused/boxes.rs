//! What owns memory of the program's heap by an address.

use std::rc::Rc;
use std::sync::Arc;

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: Box<u64>, //~ `Box<u64>` can't lie in an object: it holds an address
    b: Rc<u64>, //~ `Rc<u64>` can't lie in an object
    c: Arc<u64>, //~ `Arc<u64>` can't lie in an object
}

fn main() {}
