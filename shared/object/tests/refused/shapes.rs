//! Layouts that another compiler may choose otherwise, and other shapes that can't be.

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.free", version = 1)]
struct Free { //~ a stored type needs #[repr(C)]
    a: u64,
}

#[derive(Stored)]
#[stored(name = "test.packed", version = 1)]
#[repr(C, packed)] //~ a stored type is not packed
struct Packed {
    a: u64,
}

#[derive(Stored)]
#[stored(name = "test.packed-too", version = 1)]
#[repr(C, r#packed)] //~ a stored type is not packed
struct PackedToo {
    a: u64,
}

#[derive(Stored)]
#[stored(name = "test.either", version = 1)]
#[repr(C)]
union Either { //~ a union can't lie in an object
    a: u64,
    b: f64,
}

#[derive(Stored)]
#[stored(name = "test.nothing", version = 1)]
#[repr(C)]
struct Nothing; //~ a type without fields has nothing to store

#[derive(Stored)]
#[stored(name = "test.nameless", version = 1)]
#[repr(C)]
struct Nameless(u64, u64); //~ name the fields

#[derive(Stored)]
#[stored(name = "test.shapes", version = 1)]
#[repr(C)]
struct Shapes { //~ size for values of type `[u8]`
    a: (u32, u32), //~ a tuple's layout is the compiler's choice
    b: [u8], //~ a slice has no size of its own
}

fn main() {}
