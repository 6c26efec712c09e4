//! The allocator inside objects.

use proptest::prelude::*;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Bytes, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.heap-root", version = 1)]
#[repr(C)]
struct Root {
    some: u64,
}

fn new_object(backend: &MemoryBackend) -> ObjId {
    let space = Space::attach(backend).expect("attach");
    space.transact(|tx| tx.create::<Root>().map(|root| tx.space().id_of(root.area()))).expect("create")
}

#[test]
fn every_size_can_be_taken_and_given_back() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = guard.open::<Root>(id, Access::Write).expect("open").area();
        let pages = |len: u64| {
            (0..3)
                .map(|_| {
                    let bytes =
                        guard.transact(|tx| tx.alloc_bytes(area, &vec![1; len as usize])).expect("allocated");
                    guard.transact(|tx| tx.free_span(bytes)).expect("freed");
                    backend.pages_of(id).len()
                })
                .collect::<Vec<_>>()
        };
        for len in [1, 16, 17, 100, 1000, 3000, 4096, 5000, 8192, 8193, 65536, 1 << 20] {
            let pages = pages(len);
            assert!(pages[2] <= pages[0] + 2 * (len as usize / 4096 + 16), "{len}: {pages:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(u64),
    Free(prop::sample::Index),
    Commit,
    Abort,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop_oneof![1u64..200, 1u64..9000, 9000u64..100_000].prop_map(Step::Alloc),
        6 => any::<prop::sample::Index>().prop_map(Step::Free),
        3 => Just(Step::Commit),
        1 => Just(Step::Abort),
        1 => Just(Step::Restart),
    ]
}

/// A live allocation: offset, length, fill.
type Live = Vec<(u64, u64, u8)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn allocations_never_overlap_and_keep_their_content(steps in prop::collection::vec(step(), 1..120)) {
        for backend in MemoryBackend::kinds() {
            let id = new_object(&backend);
            let mut live = Live::new();
            let mut fill = 0u8;
            let mut steps = steps.iter();
            let mut more = true;
            while more {
                more = false;
                let space = Space::attach(&backend).expect("attach");
                let guard = space.enter();
                let area = guard.open::<Root>(id, Access::Write).expect("open").area();
                let mut tx = guard.begin().expect("begin");
                let mut pending = live.clone();
                for step in steps.by_ref() {
                    match step {
                        Step::Alloc(len) => {
                            fill = fill.wrapping_add(1);
                            let bytes = tx.alloc_bytes(area, &vec![fill; *len as usize]).expect("allocated");
                            let offset = bytes.address() % (1 << 30);
                            // Neither what is live nor what was live before the transaction may be touched.
                            for &(at, other, _) in pending.iter().chain(&live) {
                                prop_assert!(offset + len <= at || at + other <= offset, "{offset:#x}+{len} over {at:#x}+{other}");
                            }
                            pending.push((offset, *len, fill));
                        }
                        Step::Free(index) if !pending.is_empty() => {
                            let (offset, len, _) = pending.swap_remove(index.index(pending.len()));
                            let bytes: Bytes<'_> = area.span(offset, len).expect("within");
                            tx.free_span(bytes).expect("freed");
                        }
                        Step::Free(_) => {}
                        Step::Commit => {
                            tx.commit().expect("commit");
                            live = pending.clone();
                            tx = guard.begin().expect("begin");
                        }
                        Step::Abort => {
                            tx.abort();
                            pending = live.clone();
                            tx = guard.begin().expect("begin");
                        }
                        Step::Restart => {
                            more = true;
                            break;
                        }
                    }
                }
                drop(tx);
                for &(offset, len, fill) in &live {
                    let bytes: Bytes<'_> = area.span(offset, len).expect("within");
                    prop_assert!(guard.to_vec(bytes).iter().all(|&byte| byte == fill));
                }
            }
            // All given back: nothing has leaked.
            let space = Space::attach(&backend).expect("attach");
            let guard = space.enter();
            let area = guard.open::<Root>(id, Access::Write).expect("open").area();
            for (offset, len, _) in live {
                let bytes: Bytes<'_> = area.span(offset, len).expect("within");
                guard.transact(|tx| tx.free_span(bytes)).expect("freed");
            }
            let first = guard.transact(|tx| tx.alloc_bytes(area, &[1])).expect("allocated");
            guard.transact(|tx| tx.free_span(first)).expect("freed");
            let usage = space.heap_usage(area).expect("whole");
            prop_assert_eq!(usage.used_bytes, 0);
        }
    }
}

#[test]
fn what_was_not_allocated_cant_be_freed() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = guard.open::<Root>(id, Access::Write).expect("open").area();
        let bytes = guard.transact(|tx| tx.alloc_bytes(area, &[1; 100])).expect("allocated");
        let large = guard.transact(|tx| tx.alloc_bytes(area, &[1; 100_000])).expect("allocated");
        let wrong = [bytes.slice(16, 84), large.slice(1, 9000), bytes.slice(0, 10), area.span(0x3000, 128)];
        for bytes in wrong.into_iter().flatten() {
            assert_eq!(guard.transact(|tx| tx.free_span(bytes)), Err(Error::Damaged), "{bytes:?}");
        }
        let twice = space.transact(|tx| {
            tx.free_span(bytes)?;
            tx.free_span(bytes)
        });
        assert_eq!(twice, Err(Error::Damaged));
        guard.transact(|tx| tx.free_span(bytes)).expect("still allocated");
        guard.transact(|tx| tx.free_span(large)).expect("still allocated");
    }
}

#[test]
fn a_full_object_says_so_and_goes_on_working() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = guard.open::<Root>(id, Access::Write).expect("open").area();
        let half = |fits| {
            let mut tx = guard.begin().expect("begin");
            let result = tx.alloc_span::<u8>(area, 600 << 20);
            assert_eq!(result.is_ok(), fits);
            result.map(|span| tx.commit().map(|()| span))
        };
        let first = half(true).expect("fits").expect("commit");
        assert_eq!(half(false).err(), Some(Error::OutOfRange));
        guard.transact(|tx| tx.free_span(first)).expect("freed");
        half(true).expect("fits").expect("commit");
    }
}

#[test]
fn churn_does_not_make_an_object_grow() {
    for backend in MemoryBackend::kinds() {
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = guard.open::<Root>(id, Access::Write).expect("open").area();
        let mut pages = Vec::new();
        for round in 0..200 {
            let kept = guard.transact(|tx| tx.alloc_bytes(area, &[1; 5000])).expect("allocated");
            let others = [100, 3000, 40_000].map(|len| {
                guard.transact(|tx| tx.alloc_bytes(area, &vec![2; len + round % 7])).expect("allocated")
            });
            space.transact(|tx| others.into_iter().try_for_each(|other| tx.free_span(other))).expect("freed");
            guard.transact(|tx| tx.free_span(kept)).expect("freed");
            pages.push(backend.pages_of(id).len());
        }
        assert_eq!(pages[2], pages[199], "{pages:?}");
    }
}

#[test]
fn memory_that_there_are_no_pages_for_is_not_taken() {
    for len in [100, 3000, 8000, 100_000] {
        let backend = MemoryBackend::new();
        let id = new_object(&backend);
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let area = guard.open::<Root>(id, Access::Write).expect("open").area();
        let used = || guard.heap_usage(area).expect("sound").used_bytes;
        guard.transact(|tx| tx.alloc::<u64>(area).map(drop)).expect("allocated");
        let before = used();
        for pages in 0.. {
            backend.set_room(pages);
            // The error is met within the transaction, which commits.
            let tried = guard.transact(|tx| Ok::<_, Error>(tx.alloc_span::<u8>(area, len).map(drop)));
            backend.set_room(u64::MAX);
            if tried.expect("committed").is_ok() {
                assert_eq!(pages > 0, len > 16, "{len}");
                break;
            }
            assert_eq!(used(), before, "{len} bytes, {pages} pages");
        }
    }
}

#[test]
fn what_can_not_fit_is_not_looked_for() {
    let backend = MemoryBackend::new();
    let id = new_object(&backend);
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let area = guard.open::<Root>(id, Access::Write).expect("open").area();
    guard.transact(|tx| tx.alloc_span::<u8>(area, 10_000).map(drop)).expect("allocated");
    let before = backend.pages_of(id);
    for len in [1 << 30, 1 << 50, u64::MAX] {
        let tried = guard.transact(|tx| Ok::<_, Error>(tx.alloc_span::<u8>(area, len).map(drop)));
        assert_eq!(tried, Ok(Err(Error::OutOfRange)));
        assert_eq!(backend.pages_of(id), before, "{len}");
    }
}

/// A file that is cut short keeps its bytes behind the end, where the heap's map comes to lie.
#[test]
fn a_heap_begins_in_what_was_a_file() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let area = guard.transact(|tx| {
        let area = tx.create_any()?;
        tx.write_at(area, 0, &[0xff; 1 << 20])?;
        tx.set_len_bytes(area, 1 << 20)?;
        Ok::<_, Error>(area)
    });
    let area = area.expect("written");
    guard.transact(|tx| tx.set_len_bytes(area, 0)).expect("cut");
    let made = guard.transact(|tx| tx.alloc_bytes(area, &[1; 100_000]));
    assert_eq!(made.map(|bytes| guard.to_vec(bytes)), Ok(vec![1; 100_000]));
    let usage = guard.heap_usage(area).expect("sound");
    assert_eq!(usage.used_pages, 25);
}
