//! Drives a backend as the programming model does, with records of its own.

use std::collections::{BTreeMap, BTreeSet};

use twizzler::backend::{Commit, Ticket};
use twizzler::journal::{self, Changed, LINE, LOG_SEED, Line};
use twizzler::{Backend, Error, HostedBackend, ObjId, Rights};
use twizzler_abi::address::{LARGE_BYTES, LARGE_START};
use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::rights::ObjectFlags;

/// What a transaction of a script does. Objects and words go by number.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    Create(u8),
    Delete(u8),
    Set(u8, u64, u64),
    /// Writes a page in place, as a large fresh block is written, and makes it durable before the record.
    Fresh(u8, u64, u64),
    /// Not a transaction: the host is told to checkpoint.
    Checkpoint,
    /// Nor this: the object becomes a large one.
    Promote(u8),
}

/// Object number to words.
pub(crate) type State = BTreeMap<u8, BTreeMap<u64, u64>>;

pub(crate) fn spec(number: u8) -> CreateSpec {
    CreateSpec {
        nonce: [number + 1; 16],
        owner: ObjId::NONE,
        flags: ObjectFlags::PERSISTENT.bits(),
        default_rights: USUAL_RIGHTS.bits(),
        fingerprint: 0,
    }
}

pub(crate) fn inputs(number: u8) -> IdInputs {
    let CreateSpec { nonce, owner, .. } = spec(number);
    IdInputs { nonce, owner, flags: ObjectFlags::PERSISTENT, default_rights: USUAL_RIGHTS }
}

pub(crate) fn id_of(number: u8) -> ObjId {
    ObjId::derive(&inputs(number))
}

/// A word that lies beyond what a small object reaches.
pub(crate) const FAR: u64 = 1_000_000;

/// The place of a word: a line each, spread over pages.
fn place(word: u64) -> u64 {
    BASE_OFFSET + word * 1088 / 64 * 64
}

fn line_of(value: u64) -> Line {
    let mut line = Line { mask: 0xff, bytes: [0; LINE as usize] };
    line.bytes[..8].copy_from_slice(&value.to_le_bytes());
    line
}

fn store(address: u64, value: u64) {
    use std::sync::atomic::{AtomicU64, Ordering};
    // SAFETY: the tests store to objects that they have mapped, at aligned offsets that were made to exist.
    let word = unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(address as usize) };
    word.store(value, Ordering::Relaxed);
}

/// Takes a step that is no transaction; None: it is one.
pub(crate) fn run_alone(backend: &HostedBackend, what: &[Do]) -> Option<Result<(), Error>> {
    match *what {
        [Do::Checkpoint] => Some(backend.checkpoint()),
        [Do::Promote(object)] => Some(backend.promote(id_of(object))),
        _ => None,
    }
}

/// Runs one transaction, as the programming model would.
pub(crate) fn run(
    backend: &HostedBackend,
    number: u64,
    what: &[Do],
    versions: &mut BTreeMap<ObjId, u64>,
) -> Result<(), Error> {
    let (mut created, mut specs, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    let mut lines: Vec<(ObjId, u64, Line)> = Vec::new();
    let undo = |created: &[ObjId]| created.iter().for_each(|&id| backend.delete(id).expect("ours"));
    let mut slots = BTreeMap::new();
    let mut slot = |id: ObjId| -> Result<u64, Error> {
        if let Some(&base) = slots.get(&id) {
            return Ok(base);
        }
        let base = backend.map(id, Rights::READ | Rights::WRITE)?.base();
        slots.insert(id, base);
        Ok(base)
    };
    let mut prepared = || -> Result<(), Error> {
        for step in what {
            match *step {
                Do::Create(object) => {
                    created.push(backend.create(&spec(object))?);
                    specs.push(spec(object));
                }
                Do::Delete(object) => deletes.push(id_of(object)),
                Do::Set(object, word, value) => {
                    backend.ensure(id_of(object), place(word), LINE)?;
                    lines.push((id_of(object), place(word), line_of(value)));
                }
                Do::Fresh(object, word, value) => {
                    backend.ensure(id_of(object), place(word), LINE)?;
                    store(slot(id_of(object))? + place(word), value);
                    backend.sync(id_of(object), place(word), LINE)?;
                    // What makes it reachable.
                    let flag = place(0) + 64;
                    backend.ensure(id_of(object), flag, LINE)?;
                    lines.push((id_of(object), flag, line_of(word)));
                }
                Do::Checkpoint | Do::Promote(_) => {}
            }
        }
        Ok(())
    };
    if let Err(error) = prepared() {
        undo(&created);
        return Err(error);
    }
    let touched: BTreeSet<ObjId> = lines.iter().map(|line| line.0).collect();
    let changed: Vec<Changed> =
        touched.iter().map(|&id| Changed { id, version: versions.get(&id).map_or(1, |v| v + 1) }).collect();
    // Any ranges will do for where the objects are mapped.
    let at = |id: &ObjId| {
        changed.iter().position(|object| object.id == *id).expect("touched") as u64 * LARGE_BYTES
            + LARGE_START
    };
    let objects: Vec<(u64, Changed)> = changed.iter().map(|object| (at(&object.id), *object)).collect();
    let placed: Vec<_> = lines.iter().map(|(id, offset, line)| (at(id) + offset, *line)).collect();
    let mut words = Vec::new();
    let content =
        journal::Content { transaction: number, objects: &objects, deletes: &deletes, created: &specs };
    journal::encode_into(&mut words, LOG_SEED, &content, &placed);
    let logged = backend.log(&Commit { words: &words, created: &created }).and_then(|ticket| {
        backend.durable(ticket.end)?;
        backend.publish_created(&created)?;
        Ok(ticket)
    });
    let ticket: Ticket = match logged {
        Ok(ticket) => ticket,
        Err(error) => {
            undo(&created);
            return Err(error);
        }
    };
    for (id, at, line) in &lines {
        store(slot(*id)? + at, u64::from_le_bytes(line.bytes[..8].try_into().expect("eight")));
    }
    for object in &changed {
        let at = HEADER_OFFSET + std::mem::offset_of!(Header, domain_versions) as u64;
        store(slot(object.id)? + at, object.version);
        versions.insert(object.id, object.version);
    }
    for base in slots.values() {
        let slot = twizzler_abi::address::Slot::of(*base).expect("a slot");
        // SAFETY: mapped above, and only used there.
        unsafe { backend.unmap(slot) };
    }
    for id in deletes {
        backend.delete(id)?;
        versions.remove(&id);
    }
    backend.applied(ticket);
    Ok(())
}

pub(crate) fn expect(state: &mut State, what: &[Do]) {
    for step in what {
        match *step {
            Do::Create(object) => drop(state.insert(object, BTreeMap::new())),
            Do::Delete(object) => drop(state.remove(&object)),
            Do::Set(object, word, value) => {
                state.get_mut(&object).expect("there").insert(place(word), value);
            }
            Do::Fresh(object, word, value) => {
                let object = state.get_mut(&object).expect("there");
                object.insert(place(word), value);
                object.insert(place(0) + 64, word);
            }
            Do::Checkpoint | Do::Promote(_) => {}
        }
    }
}

/// What is in a store. Words that no state mentions are not looked at: fresh memory of a transaction that did not commit may hold anything.
pub(crate) fn found(backend: &HostedBackend, like: &State) -> State {
    let mut state = State::new();
    for object in 0..8 {
        let stat = match backend.stat(id_of(object)) {
            Err(Error::NoSuchObject) => continue,
            stat => stat.expect("readable"),
        };
        if stat.quarantine != 0 {
            // Never expected.
            state.insert(object, BTreeMap::from([(u64::MAX, 0)]));
            continue;
        }
        let base = backend.map(id_of(object), Rights::READ).expect("there").base();
        let mut words = BTreeMap::new();
        for &at in like.get(&object).into_iter().flat_map(BTreeMap::keys) {
            use std::sync::atomic::{AtomicU64, Ordering};
            // SAFETY: mapped just now, aligned, within the object.
            let word = unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>((base + at) as usize) };
            words.insert(at, word.load(Ordering::Relaxed));
        }
        state.insert(object, words);
    }
    state
}
