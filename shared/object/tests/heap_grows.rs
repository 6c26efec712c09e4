//! The heap of an object that was promoted: it goes on with what it had, its page map moves when the first gigabyte is full, and a program
//! that is killed while the map moves loses nothing.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use twizzler_abi::address::SLOT_BYTES;
use twizzler_abi::{Error, ObjId};
use twizzler_campaign::hooked::{Hooked, Hooks, Step};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Area, Backend, Bytes, Guard, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.heap-grows", version = 1)]
#[repr(C)]
struct Root {
    some: u64,
}

/// What lies in an object: offset, length, content.
type Live = Vec<(u64, u64, u8)>;

const MIB: u64 = 1 << 20;
/// What does not fit the first gigabyte any more.
const BEYOND: u64 = 4 * MIB;

fn area<'g, B: Backend>(guard: &'g Guard<'_, B>, id: ObjId) -> Area<'g> {
    guard.open::<Root>(id, Access::Write).expect("there").area()
}

fn alloc<'g, B: Backend>(
    guard: &'g Guard<'_, B>,
    area: Area<'g>,
    len: u64,
    fill: u8,
) -> Result<(u64, u64, u8), Error> {
    let bytes = guard.transact(|tx| tx.alloc_bytes(area, &vec![fill; len as usize]))?;
    Ok((bytes.address() - area.start(), len, fill))
}

fn span<'g>(area: Area<'g>, one: (u64, u64, u8)) -> Bytes<'g> {
    area.span(one.0, one.1).expect("within")
}

/// All that should be there is, nothing overlaps, and the heap is sound.
fn check<B: Backend>(guard: &Guard<'_, B>, id: ObjId, live: &Live) {
    let area = area(guard, id);
    for &one in live {
        let (mut first, mut last) = ([0; 1], [0; 1]);
        guard.read(span(area, one), 0, &mut first).expect("within");
        guard.read(span(area, one), one.1 - 1, &mut last).expect("within");
        assert_eq!((first, last), ([one.2], [one.2]), "at {:#x}", one.0);
    }
    let mut sorted = live.clone();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
    let usage = guard.heap_usage(area).expect("sound");
    assert!(usage.used_bytes >= live.iter().map(|one| one.1).sum());
}

/// A promoted object with blocks of before and after, whose first gigabyte is all but full.
fn promoted(backend: &MemoryBackend) -> (ObjId, Live) {
    let mut live = Live::new();
    let mut space = Space::attach(backend).expect("attached");
    let id = space.transact(|tx| tx.create::<Root>().map(|root| space.id_of(root.area()))).expect("made");
    {
        let guard = space.enter();
        let area = area(&guard, id);
        for (n, len) in [16, 100, 3000, 8192, 100_000, 200].into_iter().enumerate() {
            live.push(alloc(&guard, area, len, n as u8 + 1).expect("room"));
        }
        let (gone, _) = (live.remove(1), live.len());
        guard.transact(|tx| tx.free_span(span(area, gone))).expect("freed");
    }
    space.promote(id).expect("promoted");
    let guard = space.enter();
    check(&guard, id, &live);
    let area = area(&guard, id);
    // Untouched memory: zeros.
    let most = guard.transact(|tx| tx.alloc_span::<u8>(area, SLOT_BYTES - 8 * MIB)).expect("room");
    live.push((most.address() - area.start(), most.len(), 0));
    loop {
        let more = alloc(&guard, area, MIB, 7).expect("room");
        live.push(more);
        if more.0 + 2 * MIB > SLOT_BYTES - BEYOND / 2 {
            break;
        }
    }
    (id, live)
}

#[test]
fn a_promoted_heap_goes_on_beyond_the_gigabyte() {
    let backend = MemoryBackend::new();
    let (id, mut live) = promoted(&backend);
    {
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let area = area(&guard, id);
        for (n, len) in [BEYOND, 16, 300, 9000, BEYOND].into_iter().enumerate() {
            live.push(alloc(&guard, area, len, n as u8 + 100).expect("room"));
        }
        assert!(live.iter().any(|one| one.0 > SLOT_BYTES), "some lies beyond");
        // A reader's keep holds for both sides of the border.
        let keep = guard.keep(area).expect("kept");
        let gone = live.pop().expect("there");
        guard.transact(|tx| tx.free_span(span(area, gone))).expect("freed");
        live.push(alloc(&guard, area, BEYOND, 200).expect("room"));
        check(&guard, id, &live);
        assert!(guard.to_vec(span(area, gone)).iter().all(|&byte| byte == gone.2), "nobody else has it");
        drop(keep);
        live.push(alloc(&guard, area, BEYOND, 201).expect("room"));
        assert_eq!(live[live.len() - 1].0, gone.0, "is given out when the reader has gone");
    }
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    check(&guard, id, &live);
    let area = area(&guard, id);
    guard.transact(|tx| live.iter().try_for_each(|&one| tx.free_span(span(area, one)))).expect("freed");
    assert_eq!(guard.heap_usage(area).map(|usage| usage.used_bytes), Ok(0));
}

/// Ends its program at a store.
struct Dying {
    /// Stores until then. None: it lives.
    left: Cell<Option<u64>>,
}

struct Dead;

impl Hooks<&MemoryBackend> for Dying {
    fn step(&self, step: Step) {
        if step == Step::Stored
            && let Some(left) = self.left.get()
        {
            if left == 0 {
                std::panic::panic_any(Dead);
            }
            self.left.set(Some(left - 1));
        }
    }
}

/// Kills a program at a store of the transaction that moves the map. True if it was killed.
fn killed_at(backend: &MemoryBackend, id: ObjId, steps: u64) -> bool {
    let dying = Hooked::new(backend, Dying { left: Cell::new(None) });
    let space = ManuallyDrop::new(Space::attach(&dying).expect("attached"));
    let guard = ManuallyDrop::new(space.enter());
    let area = area(&guard, id);
    // What it leaves behind when it dies must not run.
    let mut tx = ManuallyDrop::new(guard.begin().expect("begun"));
    dying.hooks().left.set(Some(steps));
    let died = catch_unwind(AssertUnwindSafe(|| {
        tx.alloc_bytes(area, &vec![9; BEYOND as usize]).map(drop)?;
        ManuallyDrop::into_inner(tx).commit()
    }));
    dying.hooks().left.set(None);
    match died {
        Ok(result) => {
            result.expect("committed");
            false
        }
        Err(payload) => {
            assert!(payload.is::<Dead>(), "no other panic");
            true
        }
    }
}

/// What is there after a kill. True if the transaction counts.
fn survives(backend: &MemoryBackend, id: ObjId, live: &Live, steps: u64) -> bool {
    backend.kill_all();
    let space = Space::attach(backend).expect("attached");
    assert_eq!(space.recovery().damaged, 0);
    let guard = space.enter();
    check(&guard, id, live);
    let asked: u64 = live.iter().map(|one| one.1).sum();
    let used = guard.heap_usage(area(&guard, id)).expect("sound").used_bytes;
    let counts = used >= asked + BEYOND;
    assert!(
        counts || used < asked + MIB,
        "killed at store {steps}: {used} bytes are in use, {asked} were asked for"
    );
    counts
}

#[test]
fn a_kill_while_the_map_moves_loses_and_leaks_nothing() {
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().is::<Dead>() {
            eprintln!("{info}");
        }
    }));
    let backend = MemoryBackend::new();
    let (id, live) = promoted(&backend);
    let mut steps = 0;
    loop {
        assert!(killed_at(&backend, id, steps), "dies before it has committed");
        if survives(&backend, id, &live, steps) {
            break;
        }
        steps += 1;
    }
    assert!(steps > 3, "some stores come before the commit: {steps}");
    drop(backend);
    // It counts from there on: what is half in place is finished.
    for later in [1, 4, 12] {
        let backend = MemoryBackend::new();
        let (id, live) = promoted(&backend);
        killed_at(&backend, id, steps + later);
        assert!(survives(&backend, id, &live, steps + later), "{later} stores after the commit");
    }
}
