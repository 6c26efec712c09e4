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

fn swap(pair: Ptr<'static, Pair>) {
    std::mem::swap(&mut *pair.at(Pair::a), &mut *pair.at(Pair::b)) //~ cannot be dereferenced
}

fn replace(pair: Ptr<'static, Pair>, stray: InvPtr<u64>) -> InvPtr<u64> {
    std::mem::replace(&mut *pair.at(Pair::a), stray) //~ cannot be dereferenced
}

fn read(place: &InvPtr<u64>) -> InvPtr<u64> {
    std::ptr::read(place) //~ call to unsafe function
}

fn transmute() -> InvPtr<u64> {
    std::mem::transmute(0x3000_u64) //~ call to unsafe function
}

fn take_apart(pair: &Pair) -> InvPtr<u64> {
    let Pair { a, .. } = *pair; //~ cannot move out of `pair.a`
    a
}

fn move_out(pointers: &[InvPtr<u64>; 2]) -> InvPtr<u64> {
    let [first, _] = *pointers; //~ cannot move out of type `[InvPtr<u64>; 2]`
    first
}

fn within(pointers: &mut [InvPtr<u64>; 2]) {
    pointers.copy_within(0..1, 1); //~ the trait bound `InvPtr<u64>: Copy` is not satisfied
    pointers.fill(InvPtr::default()); //~ no function or associated item named `default` found //~ the trait bound `InvPtr<u64>: Clone` is not satisfied
}

fn from_an_array(reader: impl Reader<'static>, place: Ptr<'static, [InvPtr<u64>; 2]>) {
    let _ = reader.get(place); //~ `[InvPtr<u64>; 2]` can't be read or written by value
}

fn as_bytes<B: Backend>(tx: &mut Tx<'static, B>, from: Ptr<'static, Pair>, to: Ptr<'static, Pair>) -> Result<(), Error> {
    let bytes = tx.to_vec(from.as_span().as_bytes()); //~ `Pair` can't be read or written by value
    tx.write(to.as_span().as_bytes(), 0, &bytes) //~ `Pair` can't be read or written by value
}

#[derive(Stored, Clone, Copy)]
#[stored(name = "test.wrapped", version = 1)]
#[repr(transparent)]
struct Wrapped(InvPtr<u64>); //~ the trait `Copy` cannot be implemented //~ the trait bound `InvPtr<u64>: Clone` is not satisfied

fn main() {}
