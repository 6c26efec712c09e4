//! Bytes that nobody initialises.

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.before", version = 1)]
#[repr(C)]
struct Before {
    a: u8,
    b: u64, //~ 7 bytes of padding before the field `b`
}

#[derive(Stored)]
#[stored(name = "test.behind", version = 1)]
#[repr(C)]
struct Behind { //~ 4 bytes of padding at the end of `Behind`
    a: u64,
    b: u32,
}

/// Of a type with parameters, only its use can tell.
#[derive(Stored, Clone, Copy)]
#[stored(name = "test.pair", version = 1)]
#[repr(C)]
struct Pair<T> {
    a: u32,
    b: T, //~ 4 bytes of padding before the field `b`
}

const _: () = <Pair<u64> as Stored>::LAYOUT;
const _: () = <Pair<u32> as Stored>::LAYOUT;

fn main() {}
