//! What proves a type can't be had by giving other things the names that derived code uses.

#![allow(unconditional_panic)]

extern crate self as core;

use twizzler_object::__stored::{Stored, teach};
use twizzler_object::types::{TypeOf, type_of};

/// Makes nothing of a refusal.
#[macro_export]
macro_rules! compile_error {
    ($($refusal:tt)*) => {};
}

/// Says of all types that they may be stored.
mod obliging {
    pub mod __stored {
        pub use twizzler_object::__stored::{Field, FieldShape, Fingerprint, Shape, Stored};
        pub const fn no_gap_before(_: &str, _: usize, _: usize) {}
        pub const fn no_gap_at_end_of(_: &str, _: usize, _: usize) {}
        pub const fn no_drop_glue(_: &str, _: bool) {}
        pub mod teach {
            use twizzler_object::__stored::teach::Yes;
            use twizzler_object::types::{TypeOf, type_of};
            pub trait Part: Sized {
                const FINGERPRINT: u64 = 1;
                const TYPE: TypeOf = type_of::<u64>;
                const YES: Yes<Self> = { let () = [()][1]; panic!() }; //~ index out of bounds
            }
            impl<T> Part for T {}
            pub use Part as Truth;
        }
    }
}

/// Where fields lie, and how large they are.
pub mod mem {
    pub const fn size_of<T>() -> usize {
        0
    }
    pub const fn needs_drop<T>() -> bool {
        false
    }
    #[macro_export]
    macro_rules! offset_of {
        ($($what:tt)*) => { 0 };
    }
    pub use crate::offset_of;
}

#[derive(twizzler_object::Stored)]
#[stored(name = "test.obliged", version = 1, crate = crate::obliging)]
#[repr(C)]
struct Obliged {
    a: bool,
}

#[derive(twizzler_object::Stored)] //~ index out of bounds
#[repr(C)]
struct Unheard {
    a: &'static str,
}

const _: () = <Unheard as Stored>::LAYOUT;

#[derive(twizzler_object::Stored)] //~ there are bytes that nobody would initialise
#[stored(name = "test.padded", version = 1)]
#[repr(C)]
struct Padded {
    a: u64,
    b: u32,
}

struct Own(bool);

/// The blanket implementation is not for this one.
impl teach::Part for Own {
    const FINGERPRINT: u64 = 1;
    const TYPE: TypeOf = type_of::<u8>;
    const YES: teach::Yes<Self> = { let () = [()][1]; panic!() }; //~ index out of bounds
}

#[derive(twizzler_object::Stored)]
#[stored(name = "test.owner", version = 1)]
#[repr(C)]
struct Owner {
    a: Own,
}

fn main() {}
