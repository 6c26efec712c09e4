//! What lies in an untrusted object is copied out, and nothing else.

use twizzler_abi::Error;
use twizzler_object::collections::{MapRoot, OrderedMap, OrderedMapRoot};
use twizzler_object::{Backend, Guard, InvPtr, Ptr, Stored, Tx, Untrusted};

#[derive(Stored)]
#[stored(name = "test.root", version = 1)]
#[repr(C)]
struct Root {
    to: InvPtr<u64>,
    count: u64,
    map: OrderedMapRoot<u64, u64>,
}

fn written<'g, B: Backend>(tx: &mut Tx<'g, B>, root: Untrusted<'g, Root>) -> Result<(), Error> {
    tx.set(root.at(Root::count), 1) //~ mismatched types
}

fn linked_to<'g, B: Backend>(tx: &mut Tx<'g, B>, place: Ptr<'g, InvPtr<Root>>, root: Untrusted<'g, Root>) -> Result<(), Error> {
    tx.link(place, Some(root)) //~ mismatched types
}

fn locked<'g, B: Backend>(tx: &mut Tx<'g, B>, root: Untrusted<'g, Root>) -> Result<(), Error> {
    tx.lock(root.object()) //~ no method named `object` found
}

fn followed_anywhere<'g, B: Backend>(guard: &'g Guard<'_, B>, root: Untrusted<'g, Root>) {
    let _ = guard.follow(root.at(Root::to)); //~ mismatched types
}

fn trusted_as_a_map(root: Untrusted<'_, Root>) {
    let _ = OrderedMap::<u64, u64>::new(root.at(Root::map)); //~ mismatched types
}

fn main() {}
