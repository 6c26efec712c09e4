//! Objects become another type: all or nothing, at every moment, under the same ID.

use twizzler_abi::call::USUAL_RIGHTS;
use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_crashsim::{Config, Log, Scenario, SimMemory, check_crashes};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Backend, InvPtr, Migration, OpenError, Ptr, Reader, Space, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.list", version = 1)]
#[repr(C)]
struct ListV1 {
    first: InvPtr<Node>,
}

#[derive(Stored)]
#[stored(name = "test.list", version = 2)]
#[repr(C)]
struct List {
    first: InvPtr<Node>,
    sum: u64,
    len: u64,
}

#[derive(Stored)]
#[stored(name = "test.node", version = 1)]
#[repr(C)]
struct Node {
    next: InvPtr<Node>,
    value: u64,
}

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    list: InvPtr<List>,
}

/// The same in programs that were built before.
#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct OldHolder {
    list: InvPtr<ListV1>,
}

#[derive(Stored)]
#[stored(name = "test.huge", version = 1)]
#[repr(C)]
struct Huge {
    bytes: [[u8; 1024]; 8192],
}

const NONCE: [u8; 16] = *b"migration test  ";

fn fill<'g, B: Backend>(tx: &mut Tx<'g, B>, list: Ptr<'g, ListV1>) -> Result<(), Error> {
    for value in [1, 20, 300] {
        let node = tx.alloc::<Node>(list.object())?;
        tx.set(node.at(Node::value), value)?;
        let first = tx.follow(list.at(ListV1::first))?;
        tx.link(node.at(Node::next), first)?;
        tx.link(list.at(ListV1::first), Some(node))?;
    }
    Ok(())
}

fn values<'g>(reader: &impl Reader<'g>, first: Ptr<'g, InvPtr<Node>>) -> Result<Vec<u64>, Error> {
    let mut found = Vec::new();
    let mut next = reader.follow(first)?;
    while let Some(node) = next {
        found.push(reader.get(node.at(Node::value)));
        next = reader.follow(node.at(Node::next))?;
    }
    Ok(found)
}

/// Sums up, and drops the first node.
fn upgrade<'g, B: Backend>(
    tx: &mut Tx<'g, B>,
    old: Ptr<'g, ListV1>,
    new: Ptr<'g, List>,
) -> Result<(), Error> {
    let all = values(tx, old.at(ListV1::first))?;
    let first = tx.follow(old.at(ListV1::first))?.ok_or(Error::Damaged)?;
    let second = tx.follow(first.at(Node::next))?;
    tx.link(new.at(List::first), second)?;
    tx.free(first)?;
    tx.set(new.at(List::sum), all.iter().sum())?;
    tx.set(new.at(List::len), all.len() as u64 - 1)
}

fn old(space: &Space<&MemoryBackend>) -> ObjId {
    let made = space.transact(|tx| {
        let list = tx.create::<ListV1>()?;
        fill(tx, list.base())?;
        Ok::<_, Error>(tx.space().id_of(list.area()))
    });
    made.expect("made")
}

#[test]
fn an_object_becomes_another_type_under_its_id() {
    let backend = MemoryBackend::new();
    let mut space = Space::attach(&backend).expect("attaches");
    let id = old(&space);
    assert_eq!(space.migrate(id, upgrade), Ok(Migration::Done));
    assert_eq!(space.migrate(id, upgrade), Ok(Migration::Already));
    for space in [space, Space::attach(&backend).expect("attaches")] {
        let guard = space.enter();
        let list = guard.open::<List>(id, Access::Write).expect("of the new type").base();
        assert_eq!(values(&&guard, list.at(List::first)), Ok(vec![20, 1]));
        assert_eq!((guard.get(list.at(List::sum)), guard.get(list.at(List::len))), (321, 2));
        let wrong = guard.open::<ListV1>(id, Access::Write).expect_err("no longer of the old type");
        assert!(matches!(wrong, OpenError::WrongType { .. }));
        assert_eq!(space.stat(id).map(|stat| stat.fingerprint), Ok(List::FINGERPRINT));
    }
}

#[test]
fn pointers_to_it_go_on_holding() {
    let backend = MemoryBackend::new();
    let mut space = Space::attach(&backend).expect("attaches");
    let id = old(&space);
    let holder = space
        .transact(|tx| {
            let holder = tx.create::<OldHolder>()?;
            let list = tx.open::<ListV1>(id, Access::Write).map_err(Error::from)?;
            tx.link(holder.base().at(OldHolder::list), Some(list.base()))?;
            Ok::<_, Error>(tx.space().id_of(holder.area()))
        })
        .expect("made");
    assert_eq!(space.migrate(id, upgrade), Ok(Migration::Done));
    let space = Space::attach(&backend).expect("attaches");
    let guard = space.enter();
    let id_of_holder = holder;
    let holder = guard.open::<Holder>(holder, Access::Read).expect("as it was").base();
    let list = guard.follow(holder.at(Holder::list)).expect("resolves").expect("not null");
    assert_eq!(values(&&guard, list.at(List::first)), Ok(vec![20, 1]));

    let space = Space::attach(&backend).expect("attaches");
    let guard = space.enter();
    let holder = guard.open::<OldHolder>(id_of_holder, Access::Read).expect("the same names").base();
    let list = holder.at(OldHolder::list);
    assert_eq!(guard.follow(list), Err(Error::WrongType), "a program that was built before");
    let why = guard.explain(list).expect("it fails").to_string();
    assert!(why.contains("test.list") && why.contains("version 2, not 1"), "{why}");
}

#[test]
fn an_error_leaves_the_old_type() {
    let backend = MemoryBackend::new();
    let mut space = Space::attach(&backend).expect("attaches");
    let id = old(&space);
    let failed = space.migrate(id, |tx, old, new: Ptr<'_, List>| {
        upgrade(tx, old, new)?;
        Err(Error::Interrupted)
    });
    assert_eq!(failed, Err(Error::Interrupted));
    let failed = space.migrate(id, |_, _: Ptr<'_, ListV1>, _: Ptr<'_, Huge>| Ok::<_, Error>(()));
    assert_eq!(failed, Err(Error::OutOfRange), "the heap is in the way");
    let failed = space.migrate(id, |_, _: Ptr<'_, Node>, _: Ptr<'_, List>| Ok::<_, Error>(()));
    assert_eq!(failed, Err(Error::WrongType));
    let guard = space.enter();
    let list = guard.open::<ListV1>(id, Access::Read).expect("as it was").base();
    assert_eq!(values(&&guard, list.at(ListV1::first)), Ok(vec![300, 20, 1]));
}

/// What can be told of the list: its type's version, values, and sum.
type Seen = (u64, Vec<u64>, u64);

struct Upgrading;

fn id() -> ObjId {
    ObjId::derive(&IdInputs {
        nonce: NONCE,
        owner: ObjId::NONE,
        flags: ObjectFlags::PERSISTENT,
        default_rights: USUAL_RIGHTS,
    })
}

impl Scenario for Upgrading {
    type State = Seen;

    fn len_bytes(&self) -> u64 {
        memory_bytes(6)
    }

    fn setup(&self, memory: &SimMemory) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attached");
        let guard = space.enter();
        let list = guard.well_known::<ListV1>(NONCE).expect("made").base();
        guard.transact(|tx| fill(tx, list)).expect("filled");
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Seen>) {
        let mut space = Space::attach(SimObjects::boot(memory)).expect("attached");
        log.operation((2, vec![20, 1], 321), || {
            assert_eq!(space.migrate(id(), upgrade), Ok(Migration::Done));
        });
        log.operation((2, vec![20, 1], 7), || {
            let set = space.transact(|tx| {
                let list = tx.open::<List>(id(), Access::Write).map_err(Error::from)?.base();
                tx.set(list.at(List::sum), 7)
            });
            set.expect("set");
        });
    }

    fn recover(&self, memory: &SimMemory) -> Result<Seen, String> {
        let space = Space::attach(SimObjects::boot(memory)).map_err(|error| error.to_string())?;
        let guard = space.enter();
        let seen = match guard.open::<List>(id(), Access::Write) {
            Ok(list) => {
                let list = list.base();
                let all = values(&&guard, list.at(List::first));
                all.map(|all| (2, all, guard.get(list.at(List::sum))))
            }
            Err(_) => {
                let list = guard.open::<ListV1>(id(), Access::Write).map_err(|error| error.to_string())?;
                values(&&guard, list.base().at(ListV1::first)).map(|all| (1, all, 0))
            }
        };
        seen.map_err(|error| error.to_string())
    }
}

#[test]
fn a_power_cut_leaves_the_one_type_or_the_other() {
    let report = check_crashes(&Upgrading, &Config::default());
    println!("{}", report.unwrap_or_else(|failure| panic!("{failure}")));
}
