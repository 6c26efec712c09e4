//! Guards, transactions and what they resolve stay with their thread and in their time.

use twizzler_abi::{Error, ObjId};
use twizzler_object::{Access, Backend, Guard, InvPtr, Object, Ptr, Reader, Space, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.root", version = 1)]
#[repr(C)]
struct Root {
    to: InvPtr<u64>,
    count: u64,
}

fn send<T: Send>(_: T) {}

fn guard_elsewhere<B: Backend + Sync>(guard: Guard<'_, B>) {
    send(guard) //~ cannot be sent between threads safely
}

fn transaction_elsewhere<B: Backend + Sync>(tx: Tx<'_, B>) {
    send(tx) //~ between threads safely
}

fn outlives_its_guard<B: Backend>(space: &Space<B>, id: ObjId) -> Ptr<'_, Root> {
    let guard = space.enter();
    let object: Object<'_, Root> = guard.open(id, Access::Read).expect("there");
    object.base() //~ cannot return value referencing local variable `guard`
}

fn escapes_its_transaction<B: Backend>(space: &Space<B>, id: ObjId) -> Result<(), Error> {
    let mut kept = None;
    space.transact(|tx| {
        kept = Some(tx.open::<Root>(id, Access::Write)?.base()); //~ borrowed data escapes outside of closure
        Ok::<_, Error>(())
    })
}

fn unmapped_under_a_guard<B: Backend>(mut space: Space<B>) {
    let guard = space.enter();
    drop(space); //~ cannot move out of `space` because it is borrowed
    drop(guard);
}

fn writes_without_a_transaction<B: Backend>(guard: &Guard<'_, B>, root: Ptr<'_, Root>) {
    guard.set(root.at(Root::count), 1); //~ no method named `set` found
}

fn reference_into_an_object<'g, B: Backend>(guard: &'g Guard<'_, B>, root: Ptr<'g, Root>) -> &'g u64 {
    guard.get(root.at(Root::count)) //~ mismatched types //~ can't be read or written by value //~ can't lie in an object
}

fn main() {}
