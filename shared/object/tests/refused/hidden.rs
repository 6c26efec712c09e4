//! What must not be stored isn't, however it is wrapped: in arrays, in parameters, behind macros and associated types.

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::num::{NonZeroU64, Wrapping};

use twizzler_abi::Error;
use twizzler_object::{Backend, InvPtr, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.of", version = 1)]
#[repr(C)]
struct Of<T> {
    it: T,
}

trait Has {
    type It;
}

impl Has for u64 {
    type It = usize;
}

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    flags: [bool; 8], //~ can't lie in an object
    nested: [[char; 2]; 2], //~ can't lie in an object
    wrapped: Of<usize>, //~ can't lie in an object
    deep: Of<Of<[Option<NonZeroU64>; 2]>>, //~ can't lie in an object
    associated: <u64 as Has>::It, //~ can't lie in an object
    marked: PhantomData<u64>, //~ can't lie in an object
    raw: MaybeUninit<u64>, //~ can't lie in an object
    kept: ManuallyDrop<Box<u64>>, //~ can't lie in an object
    wrapping: Wrapping<u64>, //~ can't lie in an object
    cells: [Cell<u64>; 2], //~ can't lie in an object
    target: InvPtr<Of<bool>>, //~ can't lie in an object
    targets: InvPtr<[&'static u64; 2]>, //~ can't lie in an object
}

macro_rules! declare {
    ($name:ident, $field:ty) => {
        #[derive(Stored)]
        #[stored(name = "test.declared", version = 1)]
        #[repr(C)]
        struct $name {
            it: $field,
        }
    };
}

declare!(Declared, fn()); //~ can't lie in an object

fn create<B: Backend>(tx: &mut Tx<'_, B>) -> Result<(), Error> {
    tx.create::<Of<std::fs::File>>().map(drop) //~ can't lie in an object
}

/// By hand it takes a promise, which is the caller's.
struct Promised {
    _it: usize,
}

impl Stored for Promised { //~ requires an `unsafe impl` declaration
    const NAME: &'static str = "promised";
    const FINGERPRINT: u64 = 1;
}

fn main() {}
