//! An invariant pointer's bits mean something only where they lie: no way leads out of there.

use twizzler_abi::Error;
use twizzler_object::{Backend, InvPtr, Object, Ptr, Reader, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.pair", version = 1)]
#[repr(C)]
struct Pair {
    a: InvPtr<u64>,
    b: InvPtr<u64>,
}

#[derive(Stored, Clone, Copy)]
#[stored(name = "test.copied", version = 1)]
#[repr(C)]
struct Copied { //~ the trait `Copy` cannot be implemented
    a: InvPtr<u64>, //~ the trait bound `InvPtr<u64>: Clone` is not satisfied
}

fn copy(reader: impl Reader<'static>, pair: Ptr<'static, Pair>) {
    let _ = reader.get(pair.at(Pair::a)); //~ `InvPtr<u64>` can't be read or written by value
    let _ = reader.get(pair); //~ `Pair` can't be read or written by value
}

fn store<B: Backend>(tx: &mut Tx<'static, B>, pair: Ptr<'static, Pair>, stray: InvPtr<u64>) -> Result<(), Error> {
    tx.set(pair.at(Pair::a), stray) //~ `InvPtr<u64>` can't be read or written by value
}

fn clone(place: &InvPtr<u64>) -> InvPtr<u64> {
    place.clone() //~ mismatched types
}

fn take(place: &mut InvPtr<u64>) -> InvPtr<u64> {
    std::mem::take(place) //~ the trait bound `InvPtr<u64>: Default` is not satisfied
}

fn make() -> InvPtr<u64> {
    InvPtr::default() //~ no function or associated item named `default` found
}

fn dereference(place: Ptr<'static, InvPtr<u64>>) -> InvPtr<u64> {
    *place //~ cannot be dereferenced
}

fn borrow(object: &Object<'static, Pair>) -> &'static mut Pair {
    object.base().as_mut() //~ no method named `as_mut` found
}

fn main() {}
