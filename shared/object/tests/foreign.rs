//! Objects that lead to more others than their header page has entries for.

use std::mem::offset_of;

use twizzler_abi::object::{FOT_INLINE_ENTRIES, HEADER_OFFSET, Header};
use twizzler_abi::{Error, ObjId};
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_crashsim::{Config, Log, Scenario, SimMemory, check_crashes};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Backend, Companion, InvPtr, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.holder-of-many", version = 1)]
#[repr(C)]
struct Holder {
    links: [InvPtr<Leaf>; 300],
    late: InvPtr<Leaf>,
}

#[derive(Stored)]
#[stored(name = "test.leaf", version = 1)]
#[repr(C)]
struct Leaf {
    value: u64,
}

const LINKS: usize = 300;
/// Targets that need no companion.
const FEW: usize = FOT_INLINE_ENTRIES - 1;

/// A holder without links, and leaves of values from 0 on.
fn prepared(space: &Space<&MemoryBackend>) -> (ObjId, Vec<ObjId>) {
    let mut leaves = Vec::new();
    while leaves.len() < LINKS {
        let first = leaves.len() as u64;
        let some = space.transact(|tx| {
            let mut made = Vec::new();
            for value in first..first + 100 {
                let leaf = tx.create::<Leaf>()?.base();
                tx.set(leaf.at(Leaf::value), value)?;
                made.push(space.id_of(leaf.object()));
            }
            Ok::<_, Error>(made)
        });
        leaves.extend(some.expect("made"));
    }
    let holder = space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Holder>()?.area())));
    (holder.expect("made"), leaves)
}

fn link(space: &Space<&MemoryBackend>, holder: ObjId, links: &[(usize, ObjId)]) -> Result<(), Error> {
    space.transact(|tx| {
        let holder = tx.open::<Holder>(holder, Access::Write)?.base();
        for &(number, leaf) in links {
            let leaf = tx.open::<Leaf>(leaf, Access::Write)?.base();
            let place = holder.at(Holder::links).index(number).ok_or(Error::OutOfRange)?;
            tx.link(place, Some(leaf))?;
        }
        Ok(())
    })
}

/// What link leads to.
fn value(space: &Space<&MemoryBackend>, holder: ObjId, number: usize) -> Result<Option<u64>, Error> {
    let guard = space.enter();
    let holder = guard.open::<Holder>(holder, Access::Read)?.base();
    let place = holder.at(Holder::links).index(number).ok_or(Error::OutOfRange)?;
    Ok(guard.follow(place)?.map(|leaf| guard.get(leaf.at(Leaf::value))))
}

fn companions(backend: &MemoryBackend) -> Vec<ObjId> {
    let is_one = |&id: &ObjId| backend.stat(id).is_ok_and(|stat| stat.fingerprint == Companion::FINGERPRINT);
    backend.ids().into_iter().filter(is_one).collect()
}

#[test]
fn there_may_be_more_targets_than_the_header_has_room_for() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let (holder, leaves) = prepared(&space);
    let links: Vec<_> = leaves.iter().copied().enumerate().collect();
    for some in links.chunks(70) {
        link(&space, holder, some).expect("linked");
    }
    let companion = companions(&backend);
    assert_eq!(companion.len(), 1);
    let pages = backend.pages_of(companion[0]);
    for space in [space, Space::attach(&backend).expect("attached")] {
        for _ in 0..2 {
            for number in 0..LINKS {
                assert_eq!(value(&space, holder, number), Ok(Some(number as u64)), "link {number}");
            }
        }
        // Equal targets share an entry, whoever made it.
        let mut back = links.clone();
        back.reverse();
        link(&space, holder, &back).expect("linked");
        assert_eq!(
            (companions(&backend), backend.pages_of(companion[0])),
            (companion.clone(), pages.clone())
        );
        // And find their way again after what they lead to, or who leads there, was unmapped.
        space.unmap(leaves[250]);
        assert_eq!(value(&space, holder, 250), Ok(Some(250)));
        space.unmap(holder);
        assert_eq!(value(&space, holder, 251), Ok(Some(251)));
    }
    let space = Space::attach(&backend).expect("attached");
    space.transact(|tx| tx.delete(holder)).expect("deleted");
    assert_eq!(companions(&backend), [], "it goes with its holder");
}

#[test]
fn what_was_undone_is_forgotten() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let (holder, leaves) = prepared(&space);
    let links: Vec<_> = leaves.iter().copied().enumerate().collect();
    link(&space, holder, &links[..FEW]).expect("linked");
    assert_eq!(companions(&backend), []);
    let undone = space.transact(|tx| {
        let holder = tx.open::<Holder>(holder, Access::Write)?.base();
        let place = holder.at(Holder::links).index(200).ok_or(Error::OutOfRange)?;
        for &leaf in &leaves[FEW..FEW + 3] {
            let leaf = tx.open::<Leaf>(leaf, Access::Write)?.base();
            tx.link(place, Some(leaf))?;
        }
        assert_eq!(companions(&backend).len(), 1);
        let failed = tx.savepoint(|tx| {
            let leaf = tx.open::<Leaf>(leaves[FEW + 3], Access::Write)?.base();
            tx.link(place, Some(leaf))?;
            Err::<(), _>(Error::TooMany)
        });
        assert_eq!(failed, Err(Error::TooMany));
        use twizzler_object::Reader;
        let leaf = tx.follow(place)?.ok_or(Error::Damaged)?;
        assert_eq!(tx.get(leaf.at(Leaf::value)), FEW as u64 + 2, "as before the savepoint");
        Err::<(), _>(Error::Interrupted)
    });
    assert_eq!(undone, Err(Error::Interrupted));
    assert_eq!(companions(&backend), []);
    // The same indexes, for others.
    link(&space, holder, &[(0, leaves[290]), (1, leaves[291])]).expect("linked");
    for space in [space, Space::attach(&backend).expect("attached")] {
        assert_eq!((value(&space, holder, 0), value(&space, holder, 1)), (Ok(Some(290)), Ok(Some(291))));
        assert_eq!(value(&space, holder, 200), Ok(None));
    }
}

#[test]
fn a_companion_belongs_to_the_holder_that_it_names() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let (holder, leaves) = prepared(&space);
    let links: Vec<_> = leaves.iter().copied().enumerate().collect();
    link(&space, holder, &links[..FEW + 5]).expect("linked");
    let other =
        space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Holder>()?.area()))).expect("made");
    link(&space, other, &links[..FEW + 5]).expect("linked");
    let foreign = companions(&backend).into_iter().find(|&id| {
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let companion = guard.open::<Companion>(id, Access::Read).expect("opens").base();
        guard.get(companion.at(Companion::holder)) == other
    });
    let at = HEADER_OFFSET + offset_of!(Header, fot_companion) as u64;
    for wrong in [foreign.expect("there"), leaves[7], holder, ObjId::new(77), ObjId::NONE] {
        for (i, byte) in [wrong.hi.to_le_bytes(), wrong.lo.to_le_bytes()].concat().into_iter().enumerate() {
            backend.damage(holder, at + i as u64, |_| byte);
        }
        let space = Space::attach(&backend).expect("attached");
        assert_eq!(value(&space, holder, 3), Ok(Some(3)));
        let refused = value(&space, holder, FEW + 1);
        assert!(matches!(refused, Err(Error::Damaged | Error::NoSuchObject)), "{refused:?}");
        assert!(link(&space, holder, &[(0, leaves[280])]).is_err());
    }
    let before = backend.ids().len();
    let space = Space::attach(&backend).expect("attached");
    space.transact(|tx| tx.delete(holder)).expect("deleted");
    assert_eq!(backend.ids().len(), before - 1, "nothing else goes with it");
}

const NONCES: [[u8; 16]; 4] =
    [*b"foreign holder  ", *b"foreign leaf a  ", *b"foreign leaf b  ", *b"foreign leaf c  "];

/// The values that links lead to, and how many companions there are.
type Seen = (Vec<Option<u64>>, usize);

struct Growing;

impl Scenario for Growing {
    type State = Seen;

    fn len_bytes(&self) -> u64 {
        memory_bytes(14)
    }

    fn setup(&self, memory: &SimMemory) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attached");
        let guard = space.enter();
        let holder = guard.well_known::<Holder>(NONCES[0]).expect("made").base();
        for (value, nonce) in NONCES[1..].iter().enumerate() {
            let leaf = guard.well_known::<Leaf>(*nonce).expect("made").base();
            guard.transact(|tx| tx.set(leaf.at(Leaf::value), value as u64)).expect("set");
        }
        // Names fill the table without there being so many objects.
        let filled = guard.transact(|tx| {
            (1..=FEW).try_for_each(|number| tx.link_to_name(holder.at(Holder::late), &format!("{number}")))
        });
        filled.expect("filled");
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Seen>) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attached");
        let guard = space.enter();
        let holder = guard.well_known::<Holder>(NONCES[0]).expect("there").base();
        let mut links = vec![None; 3];
        for (number, nonce) in NONCES[1..].iter().enumerate() {
            links[number] = Some(number as u64);
            let leaf = guard.well_known::<Leaf>(*nonce).expect("there").base();
            log.operation((links.clone(), 1), || {
                let linked = guard.transact(|tx| {
                    let place = holder.at(Holder::links).index(number).expect("one of three");
                    tx.link(place, Some(leaf))
                });
                linked.expect("linked");
            });
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<Seen, String> {
        let text = |error: Error| error.to_string();
        let space = Space::attach(SimObjects::boot(memory)).map_err(text)?;
        let guard = space.enter();
        let holder = guard.well_known::<Holder>(NONCES[0]).map_err(text)?.base();
        let links: Result<Vec<_>, Error> = (0..3)
            .map(|number| {
                let place = holder.at(Holder::links).index(number).expect("one of three");
                Ok(guard.follow(place)?.map(|leaf| guard.get(leaf.at(Leaf::value))))
            })
            .collect();
        let is_companion =
            |id: &&ObjId| space.stat(**id).is_ok_and(|stat| stat.fingerprint == Companion::FINGERPRINT);
        Ok((links.map_err(text)?, space.backend().ids().iter().filter(is_companion).count()))
    }
}

#[test]
fn a_power_cut_leaves_a_link_or_none_and_no_lone_companion() {
    let report = check_crashes(&Growing, &Config::default());
    println!("{}", report.unwrap_or_else(|failure| panic!("{failure}")));
}
