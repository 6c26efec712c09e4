//! Freed memory is given out again when readers have passed, and not before: what a reader without a lock keeps is never another's.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{
    HashMap, HashMapRoot, List, ListRoot, Text, TextRoot, Vector, VectorRoot,
};
use twizzler_object::{Access, Area, Bytes, Guard, InvPtr, KEEPS_MAX, Ptr, Reader, Space, Stored, Tx};

/// So many words that all say the same.
type Block = [u64; 40];

#[derive(Stored)]
#[stored(name = "test.reuse", version = 1)]
#[repr(C)]
struct Root {
    newest: InvPtr<Block>,
    list: ListRoot<u64>,
}

fn new_object(backend: &MemoryBackend) -> ObjId {
    let space = Space::attach(backend).expect("attach");
    space.transact(|tx| tx.create::<Root>().map(|root| tx.space().id_of(root.area()))).expect("create")
}

fn open<'g>(guard: &'g Guard<'_, &MemoryBackend>, id: ObjId) -> Ptr<'g, Root> {
    guard.open::<Root>(id, Access::Write).expect("open").base()
}

fn alloc<'g>(guard: &'g Guard<'_, &MemoryBackend>, area: Area<'g>, len: usize, fill: u8) -> Bytes<'g> {
    guard.transact(|tx| tx.alloc_bytes(area, &vec![fill; len])).expect("allocated")
}

fn free<'g>(guard: &'g Guard<'_, &MemoryBackend>, bytes: Bytes<'g>) {
    guard.transact(|tx| tx.free_span(bytes)).expect("freed");
}

/// A block of each kind: of small and large slabs, and a run of pages.
const LENS: [usize; 5] = [16, 200, 3000, 8192, 50_000];

#[test]
fn what_is_freed_under_a_reader_keeps_its_content_until_that_has_gone() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let (reader, writer) =
            (Space::attach(&backend).expect("attach"), Space::attach(&backend).expect("attach"));
        for len in LENS {
            let guard = writer.enter();
            let area = open(&guard, id).object();
            let old = alloc(&guard, area, len, 1);
            // In another program, at other addresses.
            let readers = reader.enter();
            let theirs: Bytes<'_> = {
                let area = open(&readers, id).object();
                area.span(old.address() % (1 << 30), old.len()).expect("within")
            };
            let keep = readers.keep(open(&readers, id).object()).expect("kept");
            free(&guard, old);
            let others: Vec<_> = (0..40).map(|_| alloc(&guard, area, len, 2)).collect();
            assert!(readers.to_vec(theirs).iter().all(|&byte| byte == 1), "{len} bytes are another's");
            drop(keep);
            let again: Vec<_> = (0..600).map(|_| alloc(&guard, area, len, 3)).collect();
            assert!(
                again.iter().any(|new| new.address() == old.address()),
                "{len} bytes are given out when the reader has gone"
            );
            others.into_iter().chain(again).for_each(|bytes| free(&guard, bytes));
            assert_eq!(writer.heap_usage(area).map(|usage| usage.used_bytes), Ok(0));
        }
    }
}

fn reused_at_once(backend: &MemoryBackend, id: ObjId) {
    let space = Space::attach(backend).expect("attach");
    let guard = space.enter();
    let area = open(&guard, id).object();
    for len in LENS {
        let old = alloc(&guard, area, len, 1);
        free(&guard, old);
        assert_eq!(alloc(&guard, area, len, 2).address(), old.address(), "{len} bytes");
    }
}

/// The canary: without a keep, the next transaction takes the memory.
#[test]
fn without_readers_memory_is_reused_at_once() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        reused_at_once(&backend, id);
    }
}

#[test]
fn what_a_dead_program_kept_is_given_out() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let dead = ManuallyDrop::new(Space::attach(&backend).expect("attach"));
        let guard = ManuallyDrop::new(dead.enter());
        std::mem::forget(guard.keep(open(&guard, id).object()).expect("kept"));
        backend.kill_all();
        reused_at_once(&backend, id);
    }
}

#[test]
fn a_long_reader_costs_memory_for_what_is_freed_and_no_more() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = open(&guard, id).object();
        let mut live: Vec<_> = (0..2000).map(|_| alloc(&guard, area, 100, 1)).collect();
        let pages = || space.heap_usage(area).expect("whole").used_pages;
        let before = pages();
        let keep = guard.keep(area).expect("kept");
        for round in 0..10_000 {
            free(&guard, live.swap_remove(round * 7919 % 2000));
            live.push(alloc(&guard, area, 100, 2));
        }
        // 10,000 times 128 bytes are 313 pages.
        let kept = pages() - before;
        assert!((200..450).contains(&kept), "{kept} pages are kept");
        drop(keep);
        let before = pages();
        for round in 0..10_000 {
            free(&guard, live.swap_remove(round * 7919 % 2000));
            live.push(alloc(&guard, area, 100, 3));
        }
        assert!(pages() <= before, "{before} pages became {}", pages());
    }
}

#[test]
fn iterations_keep_what_they_go_through() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let (root, reader) = (open(&guard, id), &guard);
        let list = List::new(root.at(Root::list));
        guard.transact(|tx| (0..200).try_for_each(|n| list.push_back(tx, n).map(drop))).expect("filled");
        let mut elements = list.iter(&reader);
        assert_eq!(elements.next(), Some(Ok(0)));
        guard.transact(|tx| list.clear(tx)).expect("cleared");
        for _ in 0..2000 {
            alloc(&guard, root.object(), 24, 0xff);
        }
        assert!(elements.eq((1..200).map(Ok)));
    }
}

#[test]
fn more_keeps_than_there_are_is_an_error() {
    let backend = MemoryBackend::new();
    let id = new_object(&backend);
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let area = open(&guard, id).object();
    let keeps: Vec<_> = (0..KEEPS_MAX).map(|_| guard.keep(area).expect("kept")).collect();
    assert!(matches!(guard.keep(area), Err(Error::TooMany)));
    let list = List::<u64>::new(open(&guard, id).at(Root::list));
    assert_eq!(list.iter(&&guard).next(), Some(Err(Error::TooMany)));
    drop(keeps);
    assert_eq!(list.iter(&&guard).next(), None);
}

/// One thread replaces a block by a new one and frees the old one, again and again; another follows the pointer.
#[test]
fn who_follows_pointers_beside_a_writer_sees_whole_blocks() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let (over, torn) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for n in 1..20_000 {
                    let guard = space.enter();
                    let root = open(&guard, id);
                    let change = guard.transact(|tx| {
                        tx.lock(root.object())?;
                        let old = tx.follow(root.at(Root::newest))?;
                        let new = tx.alloc::<Block>(root.object())?;
                        tx.set(new, [n; 40])?;
                        tx.link(root.at(Root::newest), Some(new))?;
                        old.map_or(Ok(()), |old| tx.free(old))
                    });
                    change.expect("replaced");
                }
                over.store(true, Ordering::SeqCst);
            });
            while !over.load(Ordering::SeqCst) {
                let guard = space.enter();
                let root = open(&guard, id);
                let _keep = guard.keep(root.object()).expect("kept");
                let Some(block) = guard.follow(root.at(Root::newest)).expect("sound") else { continue };
                let first = guard.get(block)[0];
                for _ in 0..50 {
                    if guard.get(block).iter().any(|&word| word != first) {
                        torn.store(true, Ordering::SeqCst);
                    }
                }
            }
        });
        assert!(!torn.into_inner(), "a block changed under its reader");
    }
}

#[derive(Stored)]
#[stored(name = "test.churned", version = 1)]
#[repr(C)]
struct Churned {
    numbers: HashMapRoot<u64, [u64; 6]>,
    bytes: HashMapRoot<[u8], [u8]>,
    list: ListRoot<[u64; 3]>,
}

/// Keys that are never taken out.
const STAYING: u64 = 50;

fn key_of(n: u64) -> Vec<u8> {
    [vec![n as u8; (n % 300) as usize], n.to_le_bytes().to_vec()].concat()
}

/// Writers put in and take out, split buckets and clear; readers without locks look at everything all the time.
#[test]
fn readers_without_locks_see_whole_entries_beside_writers() {
    for backend in MemoryBackend::kinds() {
        let space = Space::attach(&backend).expect("attach");
        let id =
            space.transact(|tx| tx.create::<Churned>().map(|root| space.id_of(root.area()))).expect("made");
        let churn = |guard: &Guard<'_, &MemoryBackend>, n: u64, put: bool, clear: bool| {
            let root = guard.open::<Churned>(id, Access::Write).expect("there").base();
            let (numbers, bytes) =
                (HashMap::new(root.at(Churned::numbers)), HashMap::new(root.at(Churned::bytes)));
            let list = List::new(root.at(Churned::list));
            let change = guard.transact(|tx| {
                tx.lock(root.object())?;
                if put {
                    numbers.insert(tx, n, [n; 6])?;
                    bytes.insert(tx, &key_of(n), &key_of(n))?;
                    list.push_back(tx, [n; 3]).map(drop)
                } else if clear {
                    bytes.clear(tx)?;
                    list.clear(tx)
                } else {
                    numbers.remove(tx, &n)?;
                    bytes.remove(tx, &key_of(n))?;
                    list.pop_front(tx).map(drop)
                }
            });
            change.expect("changed");
        };
        (0..STAYING).for_each(|n| churn(&space.enter(), n, true, false));
        let left = AtomicU64::new(2);
        let (space, left) = (&space, &left);
        std::thread::scope(|threads| {
            for thread in 0..2 {
                threads.spawn(move || {
                    let mut seed = thread + 1;
                    for _ in 0..4000 {
                        seed = u64::wrapping_mul(seed, 6_364_136_223_846_793_005).wrapping_add(1);
                        let n = STAYING + (seed >> 33) % 1000;
                        churn(&space.enter(), n, seed >> 40 & 1 == 0, seed >> 50 & 0x3ff == 0);
                    }
                    left.fetch_sub(1, Ordering::SeqCst);
                });
            }
            for _ in 0..2 {
                threads.spawn(move || {
                    while left.load(Ordering::SeqCst) > 0 {
                        let guard = space.enter();
                        let reader = &guard;
                        let root = guard.open::<Churned>(id, Access::Read).expect("there").base();
                        let numbers = HashMap::new(root.at(Churned::numbers));
                        let bytes = HashMap::new(root.at(Churned::bytes));
                        let list = List::new(root.at(Churned::list));
                        for n in 0..STAYING {
                            assert_eq!(numbers.get(&reader, &n), Ok(Some([n; 6])));
                        }
                        for entry in numbers.iter(&reader) {
                            assert!(entry.is_ok_and(|(key, value)| value == [key; 6]), "{entry:?}");
                        }
                        for entry in bytes.iter(&reader) {
                            assert!(matches!(&entry, Ok((key, value)) if key == value), "{entry:?}");
                        }
                        for n in STAYING..STAYING + 20 {
                            let value = bytes.get(&reader, &key_of(n)).expect("sound");
                            assert!(value.is_none_or(|value| value == key_of(n)));
                        }
                        for element in list.iter(&reader) {
                            assert!(element.is_ok_and(|[a, b, c]| a == b && b == c), "{element:?}");
                        }
                    }
                });
            }
        });
        let guard = space.enter();
        assert!(guard.heap_usage(guard.open_any(id, Access::Read).expect("there")).is_ok());
    }
}

#[derive(Stored)]
#[stored(name = "test.looked-at", version = 1)]
#[repr(C)]
struct LookedAt {
    pairs: VectorRoot<[u64; 2]>,
    sorted: VectorRoot<u64>,
    text: TextRoot,
    list: ListRoot<[u64; 2]>,
    numbers: HashMapRoot<u64, u64>,
}

/// Changes all of it. No collection is ever empty, nor without what is looked for.
fn change<'g>(
    tx: &mut Tx<'g, &MemoryBackend>,
    root: Ptr<'g, LookedAt>,
    n: u64,
    other: &mut Bytes<'g>,
) -> Result<(), Error> {
    tx.lock(root.object())?;
    let pairs = Vector::new(root.at(LookedAt::pairs));
    match n % 32 {
        0 => pairs.clear(tx)?,
        1..8 if pairs.len(tx) > 3 => pairs.drain(tx, ..2).map(drop)?,
        _ => {}
    }
    pairs.push(tx, [n; 2])?;
    for index in 0..pairs.len(tx) {
        pairs.set(tx, index, [n; 2])?;
    }
    let sorted = Vector::new(root.at(LookedAt::sorted));
    if sorted.is_empty(tx) {
        sorted.extend_from_slice(tx, &[7, 8, 9])?;
    }
    if n.is_multiple_of(2) {
        sorted.insert(tx, 0, 1)?
    } else {
        sorted.remove(tx, 0).map(drop)?
    }
    let text = if n.is_multiple_of(2) { "a" } else { "ö" }.repeat(5 + n as usize * 37 % 200);
    Text::new(root.at(LookedAt::text)).set(tx, &text)?;
    let list = List::new(root.at(LookedAt::list));
    list.push_back(tx, [n; 2])?;
    if list.len(tx) > 2 {
        list.pop_front(tx)?;
    }
    tx.free_span(*other)?;
    *other = tx.alloc_bytes(root.object(), &(1..33).collect::<Vec<_>>())?;
    HashMap::new(root.at(LookedAt::numbers)).insert(tx, 7 + n, n).map(drop)
}

#[test]
fn readers_without_locks_see_nothing_torn_in_vectors_texts_and_ends_of_lists() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let id = space.transact(|tx| tx.create::<LookedAt>().map(|root| space.id_of(root.area()))).expect("made");
    let (over, torn) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 10]);
    let write = |turns: core::ops::Range<u64>| {
        let guard = space.enter();
        let root = guard.open::<LookedAt>(id, Access::Write).expect("there").base();
        let mut other = Bytes::EMPTY;
        for n in turns {
            guard.transact(|tx| change(tx, root, n, &mut other)).expect("changed");
        }
    };
    write(0..1);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            write(1..12_000);
            over.store(true, Ordering::SeqCst);
        });
        while !over.load(Ordering::SeqCst) {
            let guard = space.enter();
            let (reader, root) = (&guard, guard.open::<LookedAt>(id, Access::Read).expect("there").base());
            let (pairs, list) = (Vector::new(root.at(LookedAt::pairs)), List::new(root.at(LookedAt::list)));
            let is_pair = |pair: Option<[u64; 2]>| pair.is_some_and(|[a, b]| a == b);
            let are_same = |text: String| {
                let first = text.chars().next();
                text.len() > 4 && text.chars().all(|letter| Some(letter) == first)
            };
            let often = |look: &dyn Fn() -> bool| (0..100).all(|_| look());
            let sorted = Vector::new(root.at(LookedAt::sorted));
            let numbers = HashMap::<_, u64>::new(root.at(LookedAt::numbers));
            let whole = [
                pairs.iter(&reader).all(|pair| is_pair(pair.ok())),
                pairs.iter(&reader).rev().all(|pair| is_pair(pair.ok())),
                pairs.to_vec(&reader).is_ok_and(|all| all.windows(2).all(|two| two[0] == two[1])),
                pairs.places(&reader).all(|place| place.is_ok()),
                often(&|| pairs.last(&reader).is_ok_and(is_pair)),
                often(&|| sorted.binary_search(&reader, &7).is_ok_and(|at| at.is_ok())),
                Text::new(root.at(LookedAt::text)).get(&reader).is_ok_and(are_same),
                often(&|| list.front(&reader).is_ok_and(is_pair)),
                often(&|| list.back(&reader).is_ok_and(is_pair)),
                often(&|| numbers.place(&reader, &7).is_ok_and(|place| place.is_some())),
            ];
            for (torn, whole) in torn.iter().zip(whole) {
                torn.fetch_add(u64::from(!whole), Ordering::Relaxed);
            }
        }
    });
    assert_eq!(
        torn.map(AtomicU64::into_inner),
        [0; 10],
        "iter, rev, to_vec, places, last, search, text, front, back, map"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(usize),
    Free(prop::sample::Index),
    Keep,
    Drop(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop_oneof![1usize..200, 1usize..9000, 9000usize..40_000].prop_map(Step::Alloc),
        8 => any::<prop::sample::Index>().prop_map(Step::Free),
        2 => Just(Step::Keep),
        2 => any::<prop::sample::Index>().prop_map(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_was_there_when_a_keep_began_stays(steps in prop::collection::vec(step(), 1..150)) {
        for backend in MemoryBackend::kinds() {
            let id = new_object(&backend);
            let space = Space::attach(&backend).expect("attach");
            let guard = space.enter();
            let area = open(&guard, id).object();
            let (mut live, mut keeps, mut fill) = (Vec::new(), Vec::new(), 0u8);
            for step in steps.clone() {
                match step {
                    Step::Alloc(len) => {
                        fill = fill.wrapping_add(1);
                        live.push((alloc(&guard, area, len, fill), fill));
                    }
                    Step::Free(index) if !live.is_empty() => {
                        let one = live.swap_remove(index.index(live.len()));
                        free(&guard, one.0);
                    }
                    Step::Keep => keeps.push((guard.keep(area).expect("kept"), live.clone())),
                    Step::Drop(index) if !keeps.is_empty() => drop(keeps.swap_remove(index.index(keeps.len()))),
                    Step::Free(_) | Step::Drop(_) => {}
                }
                for (bytes, fill) in keeps.iter().flat_map(|(_, seen)| seen).chain(&live) {
                    prop_assert!(guard.to_vec(*bytes).iter().all(|byte| byte == fill));
                }
            }
            live.into_iter().for_each(|one| free(&guard, one.0));
            prop_assert_eq!(space.heap_usage(area).map(|usage| usage.used_bytes), Ok(0));
        }
    }
}
