//! Threads, locks, waiting.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use twizzler_abi::Error;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::{ControlOp, StatOp};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::thread::FaultKind;
use twizzler_rt::sync::{self, Mutex};
use twizzler_rt::thread::{self, End};
use twizzler_rt::{call, slots, system};

use super::{Temporary, Test, Verdict, calls, failed, holds, same};

pub(super) const TESTS: &[Test] = &[
    ("threads_return_their_results", threads_return_their_results),
    ("a_lock_lets_one_in", a_lock_lets_one_in),
    ("a_wait_is_woken", a_wait_is_woken),
    ("a_wait_times_out", a_wait_times_out),
    ("a_wait_on_many_tells_which", a_wait_on_many_tells_which),
    ("a_wake_counts", a_wake_counts),
    ("a_spinning_thread_is_preempted", a_spinning_thread_is_preempted),
    ("a_spinning_thread_is_killed", a_spinning_thread_is_killed),
    ("a_waiting_thread_is_killed", a_waiting_thread_is_killed),
    ("a_mapping_comes_and_goes_under_readers", a_mapping_comes_and_goes_under_readers),
    ("a_writer_gets_its_turn_among_readers", a_writer_gets_its_turn_among_readers),
    ("the_clock_goes_forward", the_clock_goes_forward),
    ("random_bytes_differ", random_bytes_differ),
];

fn threads_return_their_results() -> Verdict {
    calls(|| {
        let handles: Vec<_> =
            (0..16_u64).map(|n| thread::spawn("square", move || n * n)).collect::<Result<_, _>>()?;
        let squares: Vec<_> = handles.into_iter().map(|handle| handle.join().ok()).collect();
        Ok(same("results", squares, (0..16).map(|n| Some(n * n)).collect()))
    })
}

fn a_lock_lets_one_in() -> Verdict {
    calls(|| {
        let count = Arc::new(Mutex::new((0_u64, 0_u64)));
        let work = |count: Arc<Mutex<(u64, u64)>>| {
            for _ in 0..2_000 {
                let mut both = count.lock();
                both.0 += 1;
                spin_loop();
                both.1 = both.0;
            }
        };
        let handles: Vec<_> = (0..4)
            .map(|_| {
                let count = Arc::clone(&count);
                thread::spawn("counts", move || work(count))
            })
            .collect::<Result<_, _>>()?;
        for handle in handles {
            if let Err(end) = handle.join() {
                return Ok(Err(failed("a thread ended")(end)));
            }
        }
        let both = *count.lock();
        Ok(same("counts", both, (8_000, 8_000)))
    })
}

fn a_wait_is_woken() -> Verdict {
    calls(|| {
        let word = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&word);
        let handle = thread::spawn("waits", move || {
            while theirs.load(Ordering::Acquire) == 0 {
                let _ = sync::wait_while(&theirs, 0, sync::FOR_EVER);
            }
            theirs.load(Ordering::Acquire)
        })?;
        sync::sleep_ns(5_000_000);
        word.store(42, Ordering::Release);
        sync::wake_some(&word, 1);
        Ok(handle.join().map_err(failed("it ended")).and_then(|seen| same("what it saw", seen, 42)))
    })
}

fn a_wait_times_out() -> Verdict {
    let word = AtomicU64::new(0);
    let start = system::now_ns();
    let result = sync::wait_while(&word, 0, 20_000_000);
    let waited = system::now_ns() - start;
    same("result", result, Err(Error::TimedOut))?;
    holds("it took its time, and not much more", (20_000_000..2_000_000_000).contains(&waited))
}

fn a_wait_on_many_tells_which() -> Verdict {
    let words: [AtomicU64; 8] = [const { AtomicU64::new(5) }; 8];
    words[6].store(1, Ordering::Relaxed);
    let mut ops: Vec<_> = words.iter().map(|word| sync::wait(core::ptr::from_ref(word) as u64, 5)).collect();
    same("the word that differs", call::thread_sync(&mut ops, 1_000_000_000), Ok(6))
}

fn a_wake_counts() -> Verdict {
    calls(|| {
        let word = Arc::new(AtomicU64::new(0));
        let waiting = Arc::new(AtomicU64::new(0));
        let handles: Vec<_> = (0..5)
            .map(|_| {
                let (word, waiting) = (Arc::clone(&word), Arc::clone(&waiting));
                thread::spawn("waits", move || {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    while word.load(Ordering::Acquire) == 0 {
                        let _ = sync::wait_while(&word, 0, sync::FOR_EVER);
                    }
                })
            })
            .collect::<Result<_, _>>()?;
        while waiting.load(Ordering::Relaxed) < 5 {
            call::thread_yield();
        }
        sync::sleep_ns(20_000_000);
        word.store(1, Ordering::Release);
        let woken = [sync::wake_some(&word, 2), sync::wake_some(&word, u64::MAX), sync::wake_some(&word, 1)];
        let joined = handles.into_iter().all(|handle| handle.join().is_ok());
        Ok(same("woken", woken, [2, 3, 0]).and_then(|()| holds("all ended", joined)))
    })
}

/// A thread that runs until told to stop.
fn spinning() -> Result<(thread::Handle<()>, Arc<AtomicBool>), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    let handle = thread::spawn("spins", move || {
        while !theirs.load(Ordering::Relaxed) {
            spin_loop();
        }
    })?;
    Ok((handle, stop))
}

fn a_spinning_thread_is_preempted() -> Verdict {
    calls(|| {
        let spinners: Vec<_> = (0..6).map(|_| spinning()).collect::<Result<_, _>>()?;
        // Whoever wakes from here does so although every CPU is taken.
        for _ in 0..5 {
            sync::sleep_ns(1_000_000);
        }
        let mut joined = true;
        for (handle, stop) in spinners {
            stop.store(true, Ordering::Relaxed);
            joined &= handle.join().is_ok();
        }
        Ok(holds("all ended", joined))
    })
}

fn is_killed(handle: thread::Handle<()>) -> Verdict {
    call::thread_kill(handle.id()).map_err(failed("kill"))?;
    match handle.join() {
        Err(End::Fault { info, .. }) => same("fault", info.kind, FaultKind::Killed as u32),
        other => Err(failed("end")(other)),
    }
}

fn a_spinning_thread_is_killed() -> Verdict {
    calls(|| {
        let (handle, _stop) = spinning()?;
        sync::sleep_ns(2_000_000);
        Ok(is_killed(handle))
    })
}

fn a_waiting_thread_is_killed() -> Verdict {
    calls(|| {
        let handle = thread::spawn("waits", || {
            let word = AtomicU64::new(0);
            loop {
                let _ = sync::wait_while(&word, 0, sync::FOR_EVER);
            }
        })?;
        sync::sleep_ns(2_000_000);
        Ok(is_killed(handle))
    })
}

/// Who faults again and again because another thread unmaps what it reads has done nothing wrong.
fn a_mapping_comes_and_goes_under_readers() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::empty())?;
        let mapping = Arc::new(object.map()?);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let theirs = Arc::clone(&mapping);
                thread::spawn("reads", move || while theirs.word(BASE_OFFSET).load(Ordering::Relaxed) == 0 {})
            })
            .collect::<Result<_, _>>()?;
        for _ in 0..300 {
            call::invalidate(slots::view(), mapping.slot(), 1)?;
            mapping.word(BASE_OFFSET).load(Ordering::Relaxed);
        }
        mapping.word(BASE_OFFSET).store(1, Ordering::Relaxed);
        let ends: Vec<_> = readers.into_iter().filter_map(|reader| reader.join().err()).collect();
        Ok(same("readers that were stopped", ends, Vec::new()))
    })
}

/// Describing an object with many pages takes the kernel a while; changing it has its turn all the same.
fn a_writer_gets_its_turn_among_readers() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::empty())?;
        let (id, pages) = (object.0, 4_000);
        for page in 0..pages {
            call::control(ControlOp::Populate, id, BASE_OFFSET + page * PAGE_BYTES, PAGE_BYTES)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let stop = Arc::clone(&stop);
                thread::spawn("describes", move || {
                    while !stop.load(Ordering::Relaxed) {
                        let _ = call::stat(StatOp::Object, id);
                    }
                })
            })
            .collect::<Result<_, _>>()?;
        sync::sleep_ns(10_000_000);
        let start = system::now_ns();
        for page in 0..20 {
            call::control(ControlOp::Discard, id, BASE_OFFSET + page * PAGE_BYTES, PAGE_BYTES)?;
        }
        let took_ns = system::now_ns() - start;
        stop.store(true, Ordering::Relaxed);
        let joined = readers.into_iter().all(|reader| reader.join().is_ok());
        Ok(holds("all ended", joined).and(holds("it took two seconds at most", took_ns < 2_000_000_000)))
    })
}

fn the_clock_goes_forward() -> Verdict {
    let times: Vec<u64> = (0..1000).map(|_| system::now_ns()).collect();
    holds("no step back", times.is_sorted())?;
    let start = system::now_ns();
    sync::sleep_ns(10_000_000);
    holds("a sleep lasts", system::now_ns() - start >= 10_000_000)
}

fn random_bytes_differ() -> Verdict {
    calls(|| {
        let (mut one, mut other) = ([0; 32], [0; 32]);
        call::random(&mut one)?;
        call::random(&mut other)?;
        Ok(holds("they do", one != other && one != [0; 32]))
    })
}
