//! Name and version are declared.

use twizzler_object::Stored;

#[derive(Stored)]
#[repr(C)]
struct Silent { //~ a stored type declares a name and a version
    a: u64,
}

#[derive(Stored)]
#[stored(name = "test.unversioned")]
#[repr(C)]
struct Unversioned { //~ a stored type declares a name and a version
    a: u64,
}

#[derive(Stored)]
#[stored(name = "two words", version = 1)] //~ 1 to 56 ASCII characters
#[repr(C)]
struct Spaced {
    a: u64,
}

#[derive(Stored)]
#[stored(name = "test.null", version = 0)] //~ versions count from 1
#[repr(C)]
struct Null {
    a: u64,
}

#[derive(Stored)]
#[stored(name = "test.more", version = 1, colour = "red")] //~ `stored` knows
#[repr(C)]
struct More {
    a: u64,
}

fn main() {}
