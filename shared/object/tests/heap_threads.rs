//! Threads that allocate in one object, and in one each: nothing is given out twice, and what it costs
//! (`cargo test --release -p twizzler-object --test heap_threads -- --nocapture`; decision 0014 says what follows from that).

use std::collections::BTreeSet;
use std::time::Instant;

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.heap-threads", version = 1)]
#[repr(C)]
struct Root {
    words: [u64; 64],
}

/// What a transaction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    /// Sets a word.
    Set,
    /// Takes a block, sets a word of it, and gives back the one that was taken before.
    Replace,
    /// Takes sixteen blocks, and gives sixteen back.
    ReplaceMany,
}

/// Runs transactions in one thread for each of the objects; gives the blocks that are left, as (object, offset), and ns for a transaction.
fn run(
    space: &Space<&MemoryBackend>,
    objects: &[ObjId],
    work: Work,
    rounds: u64,
) -> (Vec<(ObjId, u64)>, f64) {
    let one = |thread: usize, id: ObjId| {
        let guard = space.enter();
        let root = guard.open::<Root>(id, Access::Write).expect("open").base();
        let blocks = if work == Work::ReplaceMany { 16 } else { 1 };
        let mut held = Vec::new();
        for round in 0..rounds {
            let taken = guard.transact(|tx| {
                let mut taken = Vec::new();
                if work == Work::Set {
                    tx.set(root.at(Root::words).index(thread * 32).ok_or(Error::Damaged)?, round)?;
                    return Ok::<_, Error>(taken);
                }
                for _ in 0..blocks {
                    let block = tx.alloc::<[u64; 8]>(root.object())?;
                    tx.set(block.index(0).ok_or(Error::Damaged)?, round)?;
                    taken.push(block);
                }
                held.iter().try_for_each(|&block| tx.free(block))?;
                Ok(taken)
            });
            held = taken.expect("done");
        }
        held.into_iter().map(|block| (id, block.offset())).collect::<Vec<_>>()
    };
    let begin = Instant::now();
    let left = std::thread::scope(|threads| {
        let running: Vec<_> =
            objects.iter().enumerate().map(|(n, &id)| threads.spawn(move || one(n, id))).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("ended")).collect()
    });
    (left, begin.elapsed().as_nanos() as f64 / (rounds * objects.len() as u64) as f64)
}

#[test]
fn threads_that_allocate_in_one_object_get_different_blocks() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let create =
        || space.transact(|tx| tx.create::<Root>().map(|root| space.id_of(root.area()))).expect("made");
    let (a, b) = (create(), create());
    let rounds = if cfg!(debug_assertions) { 500 } else { 100_000 };
    for work in [Work::Set, Work::Replace, Work::ReplaceMany] {
        let ns = [&[a][..], &[a, a], &[a, b]].map(|objects| {
            let (left, ns) = run(&space, objects, work, rounds);
            let different: BTreeSet<_> = left.iter().collect();
            assert_eq!(different.len(), left.len(), "a block was given out twice");
            let guard = space.enter();
            for (id, offset) in left {
                let area = guard.open_any(id, Access::Write).expect("there");
                let block = area.place::<[u64; 8]>(offset).expect("within");
                guard.transact(|tx| tx.free(block)).expect("is allocated");
            }
            ns
        });
        println!(
            "{work:?}: ns for a transaction with 1 thread {:.0}, 2 in one object {:.0}, 2 in two {:.0}",
            ns[0], ns[1], ns[2]
        );
    }
    let guard = space.enter();
    for id in [a, b] {
        let area = guard.open_any(id, Access::Read).expect("there");
        assert_eq!(space.heap_usage(area).map(|usage| usage.used_bytes), Ok(0));
    }
}
