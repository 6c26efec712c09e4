//! Entries of FOTs that nothing uses any more are used anew, and nobody comes by another target than he should.

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Guard, InvPtr, Ptr, Reader, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.hub", version = 1)]
#[repr(C)]
struct Hub {
    live: InvPtr<u64>,
    kept: [InvPtr<u64>; 400],
}

type S<'b> = Space<&'b MemoryBackend>;

fn hub(space: &S<'_>) -> ObjId {
    space.transact(|tx| Ok::<_, Error>(tx.space().id_of(tx.create::<Hub>()?.area()))).expect("made")
}

fn entries(space: &S<'_>, id: ObjId) -> u64 {
    let guard = space.enter();
    let area = guard.open_any(id, Access::Read).expect("there");
    let at = twizzler_abi::object::HEADER_OFFSET
        + std::mem::offset_of!(twizzler_abi::object::Header, fot_len_entries) as u64;
    let at = std::ptr::with_exposed_provenance::<u64>((area.start() + at) as usize);
    // SAFETY: a word of the header of an object that the guard keeps mapped.
    unsafe { at.read_volatile() }
}

/// Makes an object that holds a number, and lets a pointer lead there.
fn point(
    space: &S<'_>,
    id: ObjId,
    place: impl Fn(Ptr<'_, Hub>) -> Ptr<'_, InvPtr<u64>>,
    number: u64,
) -> ObjId {
    let linked = space.transact(|tx| {
        let hub = tx.open::<Hub>(id, Access::Write).map_err(Error::from)?.base();
        let target = tx.create::<u64>()?.base();
        tx.set(target, number)?;
        tx.link(place(hub), Some(target))?;
        Ok::<_, Error>(tx.space().id_of(target.object()))
    });
    linked.expect("linked")
}

/// What a pointer leads to.
fn number(
    space: &S<'_>,
    id: ObjId,
    place: impl Fn(Ptr<'_, Hub>) -> Ptr<'_, InvPtr<u64>>,
) -> Result<u64, Error> {
    let guard = space.enter();
    let hub = guard.open::<Hub>(id, Access::Read).expect("there").base();
    let target = guard.follow(place(hub))?.ok_or(Error::NoSuchObject)?;
    Ok(guard.get(target))
}

fn kept(index: usize) -> impl Fn(Ptr<'_, Hub>) -> Ptr<'_, InvPtr<u64>> {
    move |hub| hub.at(Hub::kept).index(index).expect("within the array")
}

fn live(hub: Ptr<'_, Hub>) -> Ptr<'_, InvPtr<u64>> {
    hub.at(Hub::live)
}

fn by_offset(offset: u64) -> impl Fn(Ptr<'_, Hub>) -> Ptr<'_, InvPtr<u64>> {
    move |hub| hub.object().place(offset).expect("within")
}

/// Points to an object, away again, and deletes it.
fn come_and_go(space: &S<'_>, id: ObjId, number: u64) {
    let target = point(space, id, live, number);
    assert_eq!(self::number(space, id, live), Ok(number));
    let gone = space.transact(|tx| {
        let hub = tx.open::<Hub>(id, Access::Write).map_err(Error::from)?.base();
        tx.link(live(hub), None)?;
        tx.delete(target)
    });
    gone.expect("unlinked");
}

#[test]
fn an_object_whose_targets_come_and_go_keeps_a_short_table() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = hub(&space);
    for index in 0..10 {
        point(&space, id, kept(index), index as u64);
    }
    for round in 0..1000 {
        come_and_go(&space, id, 1000 + round);
    }
    assert!(entries(&space, id) <= 200, "{} entries for ten pointers", entries(&space, id));
    for space in [space, Space::attach(&backend).expect("attaches")] {
        for index in 0..10 {
            assert_eq!(number(&space, id, kept(index)), Ok(index as u64));
        }
    }
}

#[test]
fn free_entries_are_found_by_the_next_program() {
    let backend = MemoryBackend::new();
    let id = {
        let space = Space::attach(&backend).expect("attaches");
        let id = hub(&space);
        (0..125).for_each(|round| come_and_go(&space, id, round));
        space.unmap(id);
        id
    };
    let space = Space::attach(&backend).expect("attaches");
    let before = entries(&space, id);
    (0..500).for_each(|round| come_and_go(&space, id, round));
    assert!(entries(&space, id) <= before + 61, "{} entries, then {}", before, entries(&space, id));
}

#[test]
fn nothing_is_used_anew_while_another_program_has_the_object_mapped() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let other = Space::attach(&backend).expect("attaches");
    let id = hub(&space);
    point(&space, id, live, 7);
    assert_eq!(number(&other, id, live), Ok(7));
    (0..200).for_each(|round| come_and_go(&space, id, round));
    assert_eq!(entries(&space, id), 202, "each target has its own");
    other.unmap(id);
    (0..200).for_each(|round| come_and_go(&space, id, round));
    assert!(entries(&space, id) < 350, "{}", entries(&space, id));
}

/// An object some of whose entries are free, and somebody who has been inside since before they were.
fn freed_beside_a_reader<'s, 'b>(space: &'s S<'b>) -> (ObjId, Guard<'s, &'b MemoryBackend>) {
    let id = hub(space);
    (0..119).for_each(|round| come_and_go(space, id, round));
    let reader = space.enter();
    (0..50).for_each(|round| come_and_go(space, id, round));
    assert_eq!(entries(space, id), 170, "freed, but not used while somebody may have an old pointer");
    (id, reader)
}

#[test]
fn readers_who_are_inside_keep_entries_as_they_are() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let (id, reader) = freed_beside_a_reader(&space);
    drop(reader);
    (0..50).for_each(|round| come_and_go(&space, id, round));
    assert!(entries(&space, id) <= 171, "{}", entries(&space, id));
}

#[test]
fn an_undone_transaction_leaves_entries_as_they_were() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = hub(&space);
    for index in 0..3 {
        point(&space, id, kept(index), index as u64);
    }
    for round in 0..600 {
        come_and_go(&space, id, round);
        let undone: Result<(), Error> = space.transact(|tx| {
            let hub = tx.open::<Hub>(id, Access::Write).map_err(Error::from)?.base();
            for _ in 0..3 {
                let target = tx.create::<u64>()?.base();
                tx.link(live(hub), Some(target))?;
                let tried: Result<(), Error> = tx.savepoint(|tx| {
                    let target = tx.create::<u64>()?.base();
                    tx.link(live(hub), Some(target))?;
                    Err(Error::Interrupted)
                });
                assert_eq!(tried, Err(Error::Interrupted));
                assert_eq!(tx.follow(live(hub)), Ok(Some(target)));
            }
            Err(Error::Interrupted)
        });
        assert_eq!(undone, Err(Error::Interrupted));
    }
    assert!(entries(&space, id) <= 250, "{}", entries(&space, id));
    for space in [space, Space::attach(&backend).expect("attaches")] {
        for index in 0..3 {
            assert_eq!(number(&space, id, kept(index)), Ok(index as u64));
        }
    }
}

#[test]
fn an_undone_transaction_does_not_end_the_wait_for_readers() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let (id, reader) = freed_beside_a_reader(&space);
    // Some of these free entries, in vain.
    for _ in 0..200 {
        let undone: Result<(), Error> = space.transact(|tx| {
            let hub = tx.open::<Hub>(id, Access::Write).map_err(Error::from)?.base();
            let target = tx.create::<u64>()?.base();
            tx.link(live(hub), Some(target))?;
            Err(Error::Interrupted)
        });
        assert_eq!(undone, Err(Error::Interrupted));
    }
    (0..10).for_each(|round| come_and_go(&space, id, round));
    assert_eq!(entries(&space, id), 180, "used while somebody may have an old pointer");
    drop(reader);
    (0..50).for_each(|round| come_and_go(&space, id, round));
    assert!(entries(&space, id) <= 181, "{}", entries(&space, id));
}

/// Pointers that dangle keep their entries, so that they go on being an error.
#[test]
fn a_pointer_to_what_is_gone_never_leads_to_something_else() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = hub(&space);
    for index in 0..400 {
        let target = point(&space, id, kept(index), index as u64);
        if index % 2 == 0 {
            space.transact(|tx| tx.delete(target)).expect("deleted");
        }
        come_and_go(&space, id, 5000);
    }
    for index in 0..400 {
        let expected = if index % 2 == 0 { Err(Error::NoSuchObject) } else { Ok(index as u64) };
        assert_eq!(number(&space, id, kept(index)), expected);
    }
}

/// What looks for unused entries must see all that the transaction has written, also where the object has grown for it.
#[test]
fn a_pointer_in_what_the_object_has_just_grown_by_keeps_its_entry() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = hub(&space);
    // As many as the header page has entries for.
    let targets: Vec<ObjId> = (0..119).map(|index| point(&space, id, kept(index), index as u64)).collect();
    assert_eq!(entries(&space, id), 120);
    let unlinked = space.transact(|tx| {
        let hub = tx.open::<Hub>(id, Access::Write).map_err(Error::from)?.base();
        tx.link(kept(118)(hub), None)
    });
    unlinked.expect("unlinked");
    let grown = space.transact(|tx| {
        let hub = tx.open::<Hub>(id, Access::Write).map_err(Error::from)?.base();
        let old = tx.open::<u64>(targets[118], Access::Write).map_err(Error::from)?.base();
        let first = tx.alloc_span::<InvPtr<u64>>(hub.object(), 8192)?.index(0).expect("many");
        tx.link(first, Some(old))?;
        let new = tx.create::<u64>()?.base();
        tx.set(new, 1000)?;
        tx.link(live(hub), Some(new))?;
        Ok::<_, Error>(first.offset())
    });
    let grown = by_offset(grown.expect("grown"));
    for space in [space, Space::attach(&backend).expect("attaches")] {
        assert_eq!(number(&space, id, &grown), Ok(118));
        (0..100).for_each(|round| come_and_go(&space, id, 2000 + round));
        assert_eq!(number(&space, id, &grown), Ok(118));
    }
}

/// Readers hop by entries of the second level while others make it larger, unmap targets, and free entries.
#[test]
fn readers_hop_while_the_second_level_grows() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attaches");
    let id = hub(&space);
    let targets: Vec<ObjId> = (0..150).map(|index| point(&space, id, kept(index), index as u64)).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let (space, over) = (&space, &over);
            threads.spawn(move || {
                let mut index = thread;
                while !over.load(Ordering::Relaxed) {
                    index = (index + 7) % 150;
                    assert_eq!(number(space, id, kept(index)), Ok(index as u64));
                }
            });
        }
        for round in 0..250 {
            point(&space, id, kept(150 + round), 9000);
            space.unmap(targets[round % 150]);
            come_and_go(&space, id, 9001);
            if round % 100 == 50 {
                space.unmap(id);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    for index in 0..400 {
        let expected = if index < 150 { index as u64 } else { 9000 };
        assert_eq!(number(&space, id, kept(index)), Ok(expected));
    }
}
