//! Numbers that are no variant.

use twizzler_object::{Stored, StoredEnum};

#[derive(Stored)]
#[stored(name = "test.plain", version = 1)]
#[repr(u8)]
enum Plain { //~ Derive `StoredEnum` in place of `Stored`
    A,
}

#[derive(Stored)]
#[stored(name = "test.rich", version = 1)]
#[repr(C)]
enum Rich { //~ an enum with fields can't lie in an object
    A(u64),
}

#[derive(StoredEnum, Clone, Copy)]
#[stored(name = "test.unsized", version = 1)]
enum Unsized { //~ a stored enum says how many bytes it takes
    A,
}

#[derive(StoredEnum, Clone, Copy)]
#[stored(name = "test.fields", version = 1)]
#[repr(u8)]
enum WithFields {
    A,
    B(u64), //~ a stored enum has no fields
}

fn main() {}
