//! Whoever wants a lock gets it, whatever others do, or is told at once why not.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Ptr, Reader, Space, Stored, Tx};

#[derive(Stored)]
#[stored(name = "test.cell", version = 1)]
#[repr(C)]
struct Cell {
    value: u64,
}

type Memory<'b> = &'b MemoryBackend;

fn cells(space: &Space<Memory<'_>>) -> [ObjId; 3] {
    [(); 3].map(|()| {
        space.transact(|tx| Ok::<_, Error>(tx.space().id_of(tx.create::<Cell>()?.area()))).expect("made")
    })
}

fn cell<'g>(tx: &Tx<'g, Memory<'_>>, id: ObjId) -> Result<Ptr<'g, Cell>, Error> {
    Ok(tx.open::<Cell>(id, Access::Write)?.base())
}

fn sum(tx: &Tx<'_, Memory<'_>>, ids: &[ObjId]) -> Result<u64, Error> {
    ids.iter().map(|&id| Ok(tx.get(cell(tx, id)?.at(Cell::value)))).sum()
}

/// Lets readers loop over all cells, and writers change one each `times` times. The most runs that a writer's transaction took.
fn most_runs(writers: u64, readers: usize, times: u64) -> u64 {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let ids = cells(&space);
    let done = AtomicBool::new(false);
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    space.transact(|tx| sum(tx, &ids)).expect("read");
                }
            });
        }
        let writers: Vec<_> = (0..writers)
            .map(|writer| {
                let (space, most) = (&space, &most);
                scope.spawn(move || {
                    for time in 0..times {
                        let mut runs = 0;
                        let changed = space.transact(|tx| {
                            runs += 1;
                            // What was read by all is written by one: the order of locks that conflicts most.
                            sum(tx, &ids)?;
                            let cell = cell(tx, ids[(writer + time) as usize % ids.len()])?;
                            tx.edit(cell.at(Cell::value), |value| *value += 1)
                        });
                        changed.expect("written");
                        most.fetch_max(runs, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a writer failed");
    });
    assert_eq!(space.transact(|tx| sum(tx, &ids)), Ok(writers * times));
    most.into_inner()
}

#[test]
fn a_writer_is_not_kept_out_by_readers_that_come_again_and_again() {
    let most = most_runs(1, 4, 200);
    assert!(most <= 4, "a transaction ran {most} times");
}

/// Each conflict is with an older one, of which there are fewer after each.
#[test]
fn writers_among_themselves_and_readers_run_again_no_more_often_than_there_are_others() {
    let most = most_runs(3, 2, 100);
    assert!(most <= 12, "a transaction ran {most} times");
}

#[test]
fn a_transaction_within_a_transaction_is_refused_at_once() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let ids = cells(&space);
    let start = Instant::now();
    let guard = space.enter();
    let result = guard.transact(|tx| {
        let cell = cell(tx, ids[0])?;
        tx.set(cell.at(Cell::value), 1)?;
        assert_eq!(guard.transact(|tx| tx.set(cell.at(Cell::value), 2)), Err(Error::Nested));
        assert_eq!(space.enter().begin().err(), Some(Error::Nested));
        assert_eq!(guard.lock(cell.object()).err(), Some(Error::Nested));
        // Another thread is another matter, and so is another space.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| space.transact(|tx| sum(tx, &ids[1..])));
            assert_eq!(other.join().expect("no panic"), Ok(0));
        });
        let other = Space::attach(&backend)?;
        assert_eq!(other.transact(|tx| sum(tx, &ids[1..])), Ok(0));
        // What a guard reads is what lies there, without the transaction's own changes.
        assert_eq!((guard.get(cell.at(Cell::value)), tx.get(cell.at(Cell::value))), (0, 1));
        tx.savepoint(|tx| tx.set(cell.at(Cell::value), 3))
    });
    assert_eq!(result, Ok(()));
    assert_eq!(space.transact(|tx| sum(tx, &ids)), Ok(3));
    assert!(start.elapsed() < Duration::from_secs(5), "nobody waited for itself");
}

/// More threads than places in which they are entered.
#[test]
fn many_threads_are_told_apart() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let barrier = Barrier::new(48);
    std::thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let guard = space.enter();
                    barrier.wait();
                    let tx = guard.begin().expect("not nested");
                    barrier.wait();
                    assert_eq!(guard.begin().err(), Some(Error::Nested));
                    drop(tx);
                }
            });
        }
    });
}

/// A read whose lock can't be had gives zeros, whichever way it is made, and the transaction says that it was in somebody's way.
#[test]
fn a_run_that_will_be_undone_reads_zeros() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let [mine, theirs, _] = cells(&space);
    for id in [mine, theirs] {
        space.transact(|tx| tx.set(cell(tx, id)?.at(Cell::value), 7)).expect("set");
    }
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let guard = space.enter();
            let mut tx = guard.begin().expect("begun");
            let (theirs, mine) = (cell(&tx, theirs).expect("there"), cell(&tx, mine).expect("there"));
            tx.set(theirs.at(Cell::value), 8).expect("locked");
            barrier.wait();
            // Waits, so it is the older one.
            tx.set(mine.at(Cell::value), 8).expect("locked in the end");
        });
        let mut runs = 0;
        let read = space.enter().transact_once(|tx| {
            runs += 1;
            let (theirs, mine) = (cell(tx, theirs)?, cell(tx, mine)?);
            assert_eq!(tx.get(mine.at(Cell::value)), 7);
            barrier.wait();
            std::thread::sleep(Duration::from_millis(50));
            let place = theirs.at(Cell::value);
            let bytes = place.as_span().as_bytes();
            assert_eq!(tx.get(place), 0);
            assert_eq!(tx.get(mine.at(Cell::value)), 7, "what it had locked it can read");
            assert_eq!(tx.to_vec(bytes), [0; 8]);
            assert!(tx.compare(bytes, &[0; 8]).is_eq());
            assert_eq!(tx.read(bytes, 0, &mut [0; 8]), Err(Error::Busy));
            assert_eq!(tx.set(mine.at(Cell::value), 9), Err(Error::Busy));
            // Whatever it makes of what it has seen.
            Err::<(), _>(Error::Damaged)
        });
        assert_eq!((read, runs), (Err(Error::Busy), 1));
    });
}
