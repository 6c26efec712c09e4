//! A lock whose holder dies.

use std::sync::{Mutex, RwLock};

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: Mutex<u64>, //~ who holds it may die
    b: RwLock<u64>, //~ who holds it may die
}

fn main() {}
