//! What changes in place, behind the back of transactions.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::sync::atomic::AtomicU64;

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: Cell<u64>, //~ it would change behind the back of transactions
    b: RefCell<u64>, //~ it would change behind the back of transactions
    c: UnsafeCell<u64>, //~ it would change behind the back of transactions
    d: AtomicU64, //~ it would change behind the back of transactions
}

fn main() {}
