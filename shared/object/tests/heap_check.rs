//! What is said of a heap that is sound, damaged, or no heap at all; and how much long use wastes.

use proptest::prelude::*;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Area, Bytes, Guard, HeapReport, Space, Stored, check_heap};

#[derive(Stored)]
#[stored(name = "test.heap-check", version = 1)]
#[repr(C)]
struct Root {
    some: u64,
}

fn new_object(backend: &MemoryBackend) -> ObjId {
    let space = Space::attach(backend).expect("attach");
    space.transact(|tx| tx.create::<Root>().map(|root| tx.space().id_of(root.area()))).expect("create")
}

/// Reads an object's bytes, zeros where there are no pages, as a tool does that has no mapping.
fn reader(backend: &MemoryBackend, id: ObjId) -> impl Fn(u64, &mut [u8]) -> Result<(), Error> {
    let pages = backend.pages_of(id);
    let base = backend.address_of(id).expect("there");
    move |offset: u64, buffer: &mut [u8]| {
        for (i, byte) in buffer.iter_mut().enumerate() {
            let at = offset + i as u64;
            *byte = 0;
            if pages.binary_search(&(at / 4096)).is_ok() {
                // SAFETY: the page exists, and nobody changes it in this test.
                *byte =
                    unsafe { std::ptr::with_exposed_provenance::<u8>((base + at) as usize).read_volatile() };
            }
        }
        Ok(())
    }
}

fn check(backend: &MemoryBackend, id: ObjId) -> HeapReport {
    check_heap(reader(backend, id)).expect("readable")
}

/// A word of an object, wherever it lies in it.
fn word_at(backend: &MemoryBackend, id: ObjId, offset: u64) -> u64 {
    let mut word = [0; 8];
    for (n, byte) in word.iter_mut().enumerate() {
        backend.damage(id, offset + n as u64, |old| {
            *byte = old;
            old
        });
    }
    u64::from_le_bytes(word)
}

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*state >> 33) as usize
}

/// Takes and gives back blocks and runs, many times; gives what is left.
fn churn<'g>(
    guard: &'g Guard<'_, &MemoryBackend>,
    area: Area<'g>,
    seed: &mut u64,
    rounds: usize,
    most: usize,
) -> Vec<Bytes<'g>> {
    let mut live: Vec<Bytes<'_>> = Vec::new();
    for _ in 0..rounds {
        let next = guard.transact(|tx| {
            let mut next = live.clone();
            for _ in 0..20 {
                if next.len() >= most || random(seed) % 100 < 45 && !next.is_empty() {
                    let one = next.swap_remove(random(seed) % next.len());
                    tx.free_span(one)?;
                } else {
                    // Small ones mostly, as programs do: up to 256, 4096 and 64 KiB.
                    let len = match random(seed) % 100 {
                        0..70 => random(seed) % 256,
                        70..97 => random(seed) % 4096,
                        _ => random(seed) % 65536,
                    } + 1;
                    next.push(tx.alloc_bytes(area, &vec![7; len])?);
                }
            }
            Ok::<_, Error>(next)
        });
        live = next.expect("done");
    }
    live
}

#[test]
fn a_heap_in_use_is_sound_and_long_use_wastes_little() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = guard.open::<Root>(id, Access::Write).expect("open").area();
        let mut seed = 5;
        let mut said = Vec::new();
        let mut live = Vec::new();
        for rounds in [500, 5_000, 10_000] {
            guard.transact(|tx| live.drain(..).try_for_each(|one| tx.free_span(one))).expect("freed");
            live = churn(&guard, area, &mut seed, rounds, 4000);
            let report = check(&backend, id);
            assert_eq!(report.findings, [], "after {rounds} rounds");
            let asked: u64 = live.iter().map(|one| one.len()).sum();
            let (blocks, pages) = (report.usage.used_bytes, report.usage.used_pages * 4096);
            // Most pages that the object ever had.
            let stored = backend.pages_of(id).len() as u64 * 4096;
            println!(
                "after {rounds} transactions of 20: {asked} bytes in {} blocks and runs; rounded up {:.3}, pages {:.3}, stored {:.3} of that",
                live.len(),
                blocks as f64 / asked as f64,
                pages as f64 / asked as f64,
                stored as f64 / asked as f64,
            );
            said.push(pages as f64 / asked as f64);
            assert!(pages < asked * 3 / 2, "long use wastes less than half as much as is in use");
        }
        assert!(said[2] < said[0] * 1.1, "longer use wastes no more: {said:?}");
        guard.transact(|tx| live.drain(..).try_for_each(|one| tx.free_span(one))).expect("freed");
        let report = check(&backend, id);
        assert_eq!((report.usage.used_bytes, report.findings), (0, vec![]));
    }
}

#[test]
fn damage_to_a_heap_is_found() {
    let allocator = HEADER_OFFSET + std::mem::offset_of!(Header, allocator) as u64;
    // Offsets in the allocator's root: magic, length of the map, the first free page, the first page of all, a slab list's head, the map.
    for at in [0, 9, 17, 24, 64 + 4 * 4, 192 + 8, 192 + 16 * 3] {
        let backend = MemoryBackend::new();
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = guard.open::<Root>(id, Access::Write).expect("open").area();
        churn(&guard, area, &mut 1, 100, 500);
        assert_eq!(check(&backend, id).findings, []);
        backend.damage(id, word_at(&backend, id, allocator) + at, |byte| byte ^ 0xff);
        let report = check(&backend, id);
        assert!(!report.findings.is_empty(), "at {at}");
        assert_eq!(space.heap_usage(area), Err(Error::Damaged), "at {at}");
    }
}

/// A heap that begins at the object's first page, all of which is metadata.
#[test]
fn a_heap_that_begins_too_early_is_damage() {
    let backend = MemoryBackend::new();
    let id = new_object(&backend);
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let area = guard.open::<Root>(id, Access::Write).expect("open").area();
    let run = guard.transact(|tx| tx.alloc_span::<u8>(area, 10_000)).expect("allocated");
    let root = word_at(&backend, id, HEADER_OFFSET + std::mem::offset_of!(Header, allocator) as u64);
    // The first free page and the first of all, and what the map says of the first eight.
    (16..32).chain(192..193).for_each(|at| backend.damage(id, root + at, |_| 0));
    for len in [1, 16, 5000, 100_000] {
        let tried = guard.transact(|tx| tx.alloc_span::<u8>(area, len).map(drop));
        assert_eq!(tried, Err(Error::Damaged), "{len}");
    }
    let _ = guard.transact(|tx| tx.free_span(run));
}

#[derive(Stored)]
#[stored(name = "test.heap-check-one", version = 1)]
#[repr(C)]
struct One {
    some: u64,
}

#[derive(Stored)]
#[stored(name = "test.heap-check-other", version = 1)]
#[repr(C)]
struct Other {
    some: u64,
}

#[test]
fn damage_to_a_type_list_is_found() {
    const BEYOND: u64 = 56;
    const LIST: u64 = 192 - 3 * 16;
    // A word of the allocator's root, and what comes there: a type without a key, a key without a type, the same key twice, a list that goes on where nothing
    // can be, and one that goes on in itself.
    type Change = fn([u64; 24], u64) -> u64;
    let damages: [(u64, Change); 5] = [
        (LIST, |_, _| 0),
        (LIST + 8, |_, _| 0),
        (LIST + 16, |words, _| words[LIST as usize / 8]),
        (BEYOND, |_, _| BASE_OFFSET + 4),
        (BEYOND, |_, root| root),
    ];
    for (number, (at, change)) in damages.into_iter().enumerate() {
        let backend = MemoryBackend::new();
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = guard.open::<Root>(id, Access::Write).expect("open").area();
        guard.transact(|tx| tx.alloc::<One>(area).and(tx.alloc::<Other>(area)).map(drop)).expect("room");
        assert_eq!((guard.types_held(area).expect("sound").len(), check(&backend, id).findings), (2, vec![]));
        let word = |offset: u64| word_at(&backend, id, offset);
        let root = word(HEADER_OFFSET + std::mem::offset_of!(Header, allocator) as u64);
        let words = std::array::from_fn(|n| word(root + n as u64 * 8));
        for (n, byte) in change(words, root).to_le_bytes().into_iter().enumerate() {
            backend.damage(id, root + at + n as u64, |_| byte);
        }
        let findings = check(&backend, id).findings;
        assert!(
            findings.iter().any(|finding| format!("{finding:?}").contains("ype")),
            "{number}: {findings:?}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_lies_there_is_looked_through(seed: u64, dense: bool, heap in 0u64..1 << 31) {
        let mut state = seed;
        let report = check_heap(|offset, buffer| {
            buffer.fill_with(|| if dense || random(&mut state).is_multiple_of(9) { random(&mut state) as u8 } else { 0 });
            if offset == HEADER_OFFSET + std::mem::offset_of!(Header, allocator) as u64 {
                buffer.copy_from_slice(&heap.to_le_bytes());
            }
            if offset == heap {
                buffer.copy_from_slice(b"TWZHEAP\x02");
            }
            if offset == heap + 24 {
                buffer.copy_from_slice(&(heap + 192 + 65536).div_ceil(4096).to_le_bytes());
            }
            if offset == heap + 8 {
                buffer.copy_from_slice(&1024u64.to_le_bytes());
            }
            Ok(())
        });
        prop_assert!(report.is_ok());
    }
}

/// A map that says of all pages that they are used, and that a slab begins there.
#[test]
fn a_map_full_of_slabs_that_are_none_is_soon_given_up() {
    const MAP_BYTES: u64 = 64 * 1024;
    let backend = MemoryBackend::new();
    let id = new_object(&backend);
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let area = guard.open::<Root>(id, Access::Write).expect("there").area();
    guard.transact(|tx| tx.alloc_bytes(area, &[1; 100]).map(drop)).expect("allocated");
    let heap = word_at(&backend, id, HEADER_OFFSET + std::mem::offset_of!(Header, allocator) as u64);
    let (len, map) = (heap + 8, heap + 192);
    let (real, mut reads) = (reader(&backend, id), 0);
    let report = check_heap(|offset, buffer| {
        reads += 1;
        real(offset, buffer)?;
        if offset == len {
            buffer.copy_from_slice(&MAP_BYTES.to_le_bytes());
        } else if (map..map + MAP_BYTES).contains(&offset) {
            buffer.fill(0xff);
        }
        Ok(())
    });
    assert_eq!(report.expect("readable").findings.len(), 100);
    assert!(reads < 2 * MAP_BYTES / 8, "{reads} reads");
}
