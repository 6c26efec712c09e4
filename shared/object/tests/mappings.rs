//! Objects that are deleted while a program has them open: nothing is written to them any more.

use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Guard, Space, Tx};

type Under<'b> = &'b MemoryBackend;

const SPEC: CreateSpec = CreateSpec {
    nonce: *b"comes and goes!!",
    owner: ObjId::NONE,
    flags: ObjectFlags::PERSISTENT.bits(),
    default_rights: USUAL_RIGHTS.bits(),
    fingerprint: 0,
};

/// Makes an object, of that ID or another one, with a word in it.
fn make(tx: &mut Tx<'_, Under<'_>>, spec: Option<&CreateSpec>, value: u64) -> Result<ObjId, Error> {
    let area = match spec {
        Some(spec) => tx.create_with(spec)?,
        None => tx.create_any()?,
    };
    tx.write_at(area, 0, &value.to_le_bytes())?;
    tx.set_len_bytes(area, 8)?;
    Ok(tx.space().id_of(area))
}

fn value(guard: &Guard<'_, Under<'_>>, id: ObjId) -> Result<u64, Error> {
    let area = guard.open_any(id, Access::Read)?;
    let bytes = guard.to_vec(guard.content(area));
    Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Damaged)?))
}

#[test]
fn a_transaction_that_changes_a_deleted_object_is_undone() {
    let backend = MemoryBackend::new();
    let [one, other] = [(); 2].map(|()| Space::attach(&backend).expect("attach"));
    let [gone, stays] = [1, 2].map(|number| one.transact(|tx| make(tx, None, number)).expect("made"));
    let guard = one.enter();
    let areas = [stays, gone].map(|id| guard.open_any(id, Access::Write).expect("there"));
    let write_to_both =
        |tx: &mut Tx<'_, _>| areas.into_iter().try_for_each(|area| tx.write_at(area, 0, &[7; 8]));
    guard.transact(write_to_both).expect("both are there");
    guard.transact(|tx| tx.write_at(areas[0], 0, &2u64.to_le_bytes())).expect("written");
    other.transact(|tx| tx.delete(gone)).expect("deleted");
    assert_eq!(guard.transact(write_to_both), Err(Error::NoSuchObject));
    assert_eq!(value(&guard, stays), Ok(2));
    assert_eq!(guard.transact(|tx| tx.alloc_bytes(areas[1], b"more").map(drop)), Err(Error::NoSuchObject));
    assert_eq!(guard.open_any(gone, Access::Write), Err(Error::NoSuchObject));
    guard.transact(|tx| tx.write_at(areas[0], 0, &3u64.to_le_bytes())).expect("goes on");
    assert_eq!(value(&other.enter(), stays), Ok(3));
}

#[test]
fn so_is_one_of_the_same_program() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let id = space.transact(|tx| make(tx, None, 1)).expect("made");
    let guard = space.enter();
    let area = guard.open_any(id, Access::Write).expect("there");
    let locked = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            space.enter().transact_once(|tx| {
                tx.delete(id)?;
                locked.wait();
                Ok::<_, Error>(())
            })
        });
        locked.wait();
        // Waits for the lock.
        assert_eq!(guard.transact(|tx| tx.write_at(area, 0, &[7; 8])), Err(Error::NoSuchObject));
        assert_eq!(other.join().expect("no panic"), Ok(()));
    });
}

#[test]
fn the_next_object_of_that_id_is_another_one() {
    let backend = MemoryBackend::new();
    let [one, other] = [(); 2].map(|()| Space::attach(&backend).expect("attach"));
    let id = one.transact(|tx| make(tx, Some(&SPEC), 1)).expect("made");
    let guard = one.enter();
    let old = guard.open_any(id, Access::Write).expect("there");
    other.transact(|tx| tx.delete(id)).expect("deleted");
    other.transact(|tx| make(tx, Some(&SPEC), 2)).expect("made again");
    assert_eq!(guard.transact(|tx| tx.write_at(old, 0, &[7; 8])), Err(Error::NoSuchObject));
    assert_eq!((value(&guard, id), value(&other.enter(), id)), (Ok(2), Ok(2)));
    let new = guard.open_any(id, Access::Write).expect("there");
    guard.transact(|tx| tx.write_at(new, 0, &3u64.to_le_bytes())).expect("written");
    assert_eq!(value(&other.enter(), id), Ok(3));
    // Who had the old one open makes the next one.
    other.transact(|tx| tx.delete(id)).expect("deleted");
    one.transact(|tx| make(tx, Some(&SPEC), 4)).expect("made once more");
    assert_eq!((value(&guard, id), value(&other.enter(), id)), (Ok(4), Ok(4)));
}
