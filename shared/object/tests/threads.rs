//! Threads of one program, and programs that run at the same time: as if one transaction ran after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Backend, InvPtr, LANES_MAX, Ptr, Reader, Space, Stored, Tx};

/// Some accounts.
#[derive(Stored)]
#[stored(name = "test.bank", version = 1)]
#[repr(C)]
struct Bank {
    accounts: [u64; 4],
    next: InvPtr<Bank>,
}

const START: u64 = 1000;

fn banks<B: Backend>(space: &Space<B>, count: usize) -> Vec<ObjId> {
    (0..count)
        .map(|_| {
            space
                .transact(|tx| {
                    let bank = tx.create::<Bank>()?;
                    tx.set(bank.base().at(Bank::accounts), [START; 4])?;
                    Ok::<_, Error>(tx.space().id_of(bank.area()))
                })
                .expect("made")
        })
        .collect()
}

fn bank<'g, B: Backend>(tx: &Tx<'g, B>, id: ObjId) -> Result<Ptr<'g, Bank>, Error> {
    Ok(tx.open::<Bank>(id, Access::Write)?.base())
}

fn total<B: Backend>(tx: &mut Tx<'_, B>, ids: &[ObjId]) -> Result<u64, Error> {
    ids.iter().map(|&id| Ok(tx.get(bank(tx, id)?.at(Bank::accounts)).iter().sum::<u64>())).sum()
}

fn random(state: &AtomicU64) -> u64 {
    let value = state.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    state.store(value, Ordering::Relaxed);
    value >> 33
}

fn transfer<B: Backend>(space: &Space<B>, ids: &[ObjId], seed: &AtomicU64) -> Result<(), Error> {
    let (from, to, amount) = (random(seed), random(seed), random(seed) % 50);
    space.transact(|tx| {
        let from = bank(tx, ids[from as usize % ids.len()])?.at(Bank::accounts).index(from as usize / 7 % 4);
        let to = bank(tx, ids[to as usize % ids.len()])?.at(Bank::accounts).index(to as usize / 7 % 4);
        let (from, to) = (from.expect("below 4"), to.expect("below 4"));
        let left = tx.get(from).saturating_sub(amount);
        let moved = tx.get(from) - left;
        tx.set(from, left)?;
        let sum = tx.get(to) + moved;
        tx.set(to, sum)
    })
}

/// Money is neither made nor lost, and nobody ever sees it on its way.
fn money_stays(spaces: &[&Space<&MemoryBackend>], ids: &[ObjId]) {
    let wanted = START * 4 * ids.len() as u64;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let movers: Vec<_> = (0..4)
            .map(|n| {
                let space = spaces[n % spaces.len()];
                scope.spawn(move || {
                    let seed = AtomicU64::new(n as u64 * 977 + 5);
                    for _ in 0..400 {
                        transfer(space, ids, &seed).expect("moved");
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(spaces[0].transact(|tx| total(tx, ids)), Ok(wanted));
            }
        });
        movers.into_iter().for_each(|mover| mover.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(spaces[0].transact(|tx| total(tx, ids)), Ok(wanted));
}

#[test]
fn threads_of_a_program_move_money() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let ids = banks(&space, 6);
    money_stays(&[&space], &ids);
}

#[test]
fn programs_and_their_threads_move_money() {
    let backend = MemoryBackend::new();
    let spaces = [(); 2].map(|()| Space::attach(&backend).expect("attach"));
    let ids = banks(&spaces[0], 3);
    money_stays(&spaces.each_ref(), &ids);
}

/// Each takes from its own account if both together hold enough: one after the other, only one can.
#[test]
fn write_skew_does_not_happen() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    for _ in 0..100 {
        let ids = banks(&space, 2);
        let barrier = Barrier::new(2);
        let take = |own: usize| {
            barrier.wait();
            space.transact(|tx| {
                let places = [bank(tx, ids[0])?, bank(tx, ids[1])?]
                    .map(|bank| bank.at(Bank::accounts).index(0).expect("below 4"));
                if tx.get(places[0]) + tx.get(places[1]) >= 2 * START {
                    tx.set(places[own], 0)?;
                }
                Ok::<_, Error>(())
            })
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| take(1));
            take(0).expect("done");
            other.join().expect("no panic").expect("done");
        });
        let left = space.transact(|tx| {
            let accounts =
                [bank(tx, ids[0])?, bank(tx, ids[1])?].map(|bank| tx.get(bank.at(Bank::accounts))[0]);
            Ok::<_, Error>(accounts[0] + accounts[1])
        });
        assert_eq!(left, Ok(START));
    }
}

/// More than a line, and aligned to as much, as what threads write to side by side is.
#[derive(Clone, Copy, Stored)]
#[stored(name = "test.wide", version = 1)]
#[repr(C, align(128))]
struct Wide {
    words: [u64; 16],
}

#[test]
fn a_transaction_sees_its_own_changes_of_each_line() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let wide = guard.transact(|tx| tx.create::<Wide>()).expect("made").base();
    guard
        .transact(|tx| {
            tx.set(wide.at(Wide::words).index(15).expect("one of 16"), 7)?;
            assert_eq!(tx.get(wide).words[15], 7);
            tx.edit(wide, |wide| wide.words[0] = 1)
        })
        .expect("committed");
    let words = guard.get(wide).words;
    assert_eq!((words[0], words[15]), (1, 7));
}

#[test]
fn an_undone_savepoint_leaves_the_rest() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let ids = banks(&space, 2);
    let before = backend.ids().len();
    space
        .transact(|tx| {
            let [a, b] = [bank(tx, ids[0])?, bank(tx, ids[1])?];
            let big = tx.alloc_bytes(a.object(), &[1; 5000])?;
            tx.edit(a.at(Bank::accounts), |accounts| accounts[0] = 1)?;
            let undone = tx.savepoint(|tx| {
                tx.edit(a.at(Bank::accounts), |accounts| accounts[0] = 2)?;
                tx.write(big, 10, &[9; 100])?;
                let other = tx.create::<Bank>()?;
                tx.link(b.at(Bank::next), Some(other.base()))?;
                assert_eq!(tx.get(a.at(Bank::accounts))[0], 2);
                Err::<(), _>(Error::Interrupted)
            });
            assert_eq!(undone, Err(Error::Interrupted));
            assert_eq!(tx.get(a.at(Bank::accounts))[0], 1);
            assert_eq!(tx.to_vec(big), [1; 5000]);
            assert_eq!(tx.follow(b.at(Bank::next)), Ok(None));
            tx.savepoint(|tx| {
                tx.write(big, 20, &[7; 3])?;
                tx.edit(b.at(Bank::accounts), |accounts| accounts[3] = 4)
            })?;
            tx.write(big, 21, &[8])?;
            assert_eq!(tx.to_vec(big)[18..25], [1, 1, 7, 8, 7, 1, 1]);
            Ok::<_, Error>(())
        })
        .expect("committed");
    assert_eq!(backend.ids().len(), before);
    let guard = space.enter();
    let [a, b] = [ids[0], ids[1]].map(|id| guard.open::<Bank>(id, Access::Read).expect("there").base());
    assert_eq!(guard.get(a.at(Bank::accounts)), [1, START, START, START]);
    assert_eq!(guard.get(b.at(Bank::accounts)), [START, START, START, 4]);
}

#[test]
fn a_panic_that_is_caught_undoes_its_savepoint_and_the_rest_is_flushed() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let ids = banks(&space, 1);
    let before = backend.ids().len();
    let lines = space.transact(|tx| {
        let a = bank(tx, ids[0])?;
        // Written in place, so it must be written back before the record.
        let large = vec![1; 5000];
        let text = tx.alloc_bytes(a.object(), &large)?;
        tx.edit(a.at(Bank::accounts), |accounts| accounts[0] = 1)?;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            tx.savepoint(|tx| {
                tx.edit(a.at(Bank::accounts), |accounts| accounts[1] = 2)?;
                tx.write(text, 10, &[9; 100])?;
                let other = tx.create::<Bank>()?;
                tx.link(a.at(Bank::next), Some(other.base()))?;
                if tx.get(a.at(Bank::accounts))[1] == 2 {
                    std::panic::resume_unwind(Box::new("in the midst"));
                }
                Ok::<_, Error>(())
            })
        }));
        assert!(caught.is_err());
        assert_eq!(tx.get(a.at(Bank::accounts)), [1, START, START, START]);
        assert_eq!(tx.to_vec(text), large);
        assert_eq!(tx.follow(a.at(Bank::next)), Ok(None));
        Ok::<_, Error>(backend.flushed_lines())
    });
    let lines = backend.flushed_lines() - lines.expect("committed");
    assert!(lines >= 5000 / 64, "only {lines} lines were written back");
    assert_eq!(backend.ids().len(), before);
    let guard = space.enter();
    let a = guard.open::<Bank>(ids[0], Access::Read).expect("there").base();
    assert_eq!(guard.get(a.at(Bank::accounts)), [1, START, START, START]);
}

#[test]
fn a_panic_undoes_the_transaction_and_frees_what_it_had_locked() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let ids = banks(&space, 1);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        space.transact(|tx| {
            let bank = bank(tx, ids[0])?;
            tx.set(bank.at(Bank::accounts), [0; 4])?;
            std::panic::resume_unwind(Box::new("on purpose"));
            #[allow(unreachable_code, reason = "the closure needs a type")]
            Ok::<_, Error>(())
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(space.transact(|tx| total(tx, &ids)), Ok(4 * START));
    space.transact(|tx| tx.set(bank(tx, ids[0])?.at(Bank::accounts), [1; 4])).expect("not locked");
}

#[test]
fn more_threads_than_lanes_take_turns() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let ids = banks(&space, 1);
    let count = |tx: &mut Tx<'_, _>| {
        let bank = bank(tx, ids[0])?;
        tx.edit(bank.at(Bank::accounts), |accounts| accounts[1] += 1)
    };
    let (all_have_lanes, may_end) = (Barrier::new(LANES_MAX + 1), Barrier::new(LANES_MAX + 1));
    std::thread::scope(|scope| {
        for _ in 0..LANES_MAX {
            scope.spawn(|| {
                let done: Result<(), Error> = space.transact(|_| {
                    all_have_lanes.wait();
                    may_end.wait();
                    Ok(())
                });
                done.expect("a lane");
            });
        }
        all_have_lanes.wait();
        let others: Vec<_> = (0..200).map(|_| scope.spawn(|| space.transact(count))).collect();
        assert!(others.iter().all(|thread| !thread.is_finished()), "all lanes are taken");
        may_end.wait();
        others.into_iter().for_each(|thread| thread.join().expect("no panic").expect("had a turn"));
    });
    assert_eq!(space.transact(|tx| total(tx, &ids)), Ok(4 * START + 200));
}

/// Objects come and go from the tables while others follow pointers to them.
#[test]
fn unmapping_disturbs_nobody_who_is_inside() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let ids = banks(&space, 2);
    space
        .transact(|tx| {
            let [a, b] = [bank(tx, ids[0])?, bank(tx, ids[1])?];
            tx.set(b.at(Bank::accounts), [7; 4])?;
            tx.link(a.at(Bank::next), Some(b))
        })
        .expect("linked");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..3000 {
                        let guard = space.enter();
                        let a = guard.open::<Bank>(ids[0], Access::Read).expect("there").base();
                        let b = guard.follow(a.at(Bank::next)).expect("good").expect("linked");
                        assert_eq!(guard.get(b.at(Bank::accounts)), [7; 4]);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                space.unmap(ids[1]);
                space.unmap(ids[0]);
            }
        });
        // All are joined before the verdict, so that a failure ends the test.
        let results: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a reader failed");
    });
}

/// Two threads read a word and write it then, without saying before that they will.
#[test]
fn who_conflicted_over_a_lock_that_it_had_read_under_takes_it_at_once_the_next_time() {
    const NUMBER: u64 = 300;
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let id = banks(&space, 1)[0];
    let runs = AtomicU64::new(0);
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let guard = space.enter();
                let place = guard.open::<Bank>(id, Access::Write).expect("there").base().at(Bank::accounts);
                for _ in 0..NUMBER {
                    let added = guard.transact(|tx| {
                        runs.fetch_add(1, Ordering::Relaxed);
                        let mut accounts = tx.get(place);
                        accounts[0] += 1;
                        // The other one may come to read it as well.
                        std::thread::sleep(std::time::Duration::from_micros(100));
                        tx.set(place, accounts)
                    });
                    added.expect("added");
                }
            });
        }
    });
    let (runs, transactions) = (runs.load(Ordering::Relaxed), 2 * NUMBER);
    println!("{runs} runs of {transactions} transactions, {:?} each", start.elapsed() / transactions as u32);
    let guard = space.enter();
    let bank = guard.open::<Bank>(id, Access::Read).expect("there").base();
    assert_eq!(guard.get(bank.at(Bank::accounts))[0], START + transactions);
    assert!(runs < transactions + transactions / 10, "{runs} runs of {transactions} transactions");
}
