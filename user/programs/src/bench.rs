//! Measures what the system does, in lines `bench NAME NS`: nanoseconds for one operation, best of five.
//!
//! Names and meanings are those of the Linux side (`bench/examples/linux_peer.rs`) where that has the same.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::USUAL_RIGHTS;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::{args, call, eprintln, exit, println, sync, system, system_word, thread};

const READ_WRITE: Rights = Rights::READ.union(Rights::WRITE);

/// One measurement: how often an operation is done, and what does it that often. Returns the time it took, so
/// that what must be prepared is not counted.
type Work = fn(u64) -> Result<u64, Error>;

const FIGURES: &[(&str, u64, Work)] = &[
    ("null_call", 20_000, null_call),
    ("page_fault", 4_000, page_fault),
    ("map_touch_unmap", 1_000, map_touch_unmap),
    ("create_delete", 500, create_delete),
    ("yield_switch", 5_000, yield_switch),
    ("futex_ping_pong", 2_000, ping_pong),
    ("sync_wake", 5_000, sync_wake),
    ("clock", 20_000, clock),
    ("object_create_volatile", 500, create_volatile),
    ("object_delete_volatile", 500, delete_volatile),
    ("object_create", 300, create_persistent),
    ("object_delete", 300, delete_persistent),
    ("object_map", 1_000, map),
    ("first_touch", 2_000, first_touch),
    ("thread_spawn_join", 200, spawn_join),
    ("random_16", 2_000, random),
];

/// `bench [NAME...]`.
#[must_use]
pub fn run() -> u64 {
    let arguments = args::all();
    let wanted = |name: &str| arguments.len() < 2 || arguments[1..].iter().any(|argument| argument == name);
    if let Some(unknown) =
        arguments.iter().skip(1).find(|name| FIGURES.iter().all(|(figure, ..)| figure != name))
    {
        let figures: Vec<&str> = FIGURES.iter().map(|(name, ..)| *name).collect();
        eprintln!("usage: bench [FIGURE...]     there is no figure `{unknown}`, but {}", figures.join(", "));
        return exit::USAGE;
    }
    println!("bench boot {}", system_word!(boot_ns));
    println!("bench mount {}", system_word!(mount_ns));
    let mut status = exit::SUCCESS;
    for &(name, rounds, work) in FIGURES.iter().filter(|(name, ..)| wanted(name)) {
        match best(rounds, work) {
            Ok(ns) => println!("bench {name} {}.{}", ns / 10, ns % 10),
            Err(error) => {
                eprintln!("bench: {name}: {error}");
                status = exit::FAILURE;
            }
        }
    }
    status
}

/// Tenths of nanoseconds for one operation.
fn best(rounds: u64, work: Work) -> Result<u64, Error> {
    work((rounds / 10).max(1))?;
    let mut best = u64::MAX;
    for _ in 0..5 {
        best = best.min(work(rounds)?);
    }
    Ok(best * 10 / rounds)
}

fn timed(work: impl FnOnce() -> Result<(), Error>) -> Result<u64, Error> {
    let start = system::now_ns();
    work()?;
    Ok(system::now_ns() - start)
}

fn times(rounds: u64, mut work: impl FnMut() -> Result<(), Error>) -> Result<u64, Error> {
    timed(|| (0..rounds).try_for_each(|_| work()))
}

fn null_call(rounds: u64) -> Result<u64, Error> {
    times(rounds, || {
        call::nothing();
        Ok(())
    })
}

/// First touches of a volatile object's pages.
fn page_fault(rounds: u64) -> Result<u64, Error> {
    touch_pages(ObjectFlags::empty(), rounds)
}

/// First touches of a persistent object's pages: each is durable before it is there.
fn first_touch(rounds: u64) -> Result<u64, Error> {
    touch_pages(ObjectFlags::PERSISTENT, rounds)
}

fn touch_pages(flags: ObjectFlags, rounds: u64) -> Result<u64, Error> {
    let id = call::create(flags, USUAL_RIGHTS)?;
    let mapping = Mapping::new(id, READ_WRITE)?;
    let ns = timed(|| {
        (0..rounds).for_each(|page| mapping.write(BASE_OFFSET + page * PAGE_BYTES, &[1]));
        Ok(())
    });
    drop(mapping);
    call::delete(id)?;
    ns
}

/// An object with one page.
fn small_object(flags: ObjectFlags) -> Result<ObjId, Error> {
    let id = call::create(flags, USUAL_RIGHTS)?;
    Mapping::new(id, READ_WRITE)?.write(BASE_OFFSET, &[1]);
    Ok(id)
}

fn map_touch_unmap(rounds: u64) -> Result<u64, Error> {
    let id = small_object(ObjectFlags::empty())?;
    let ns = times(rounds, || {
        Mapping::unchecked(id, READ_WRITE)?.write(BASE_OFFSET, &[1]);
        Ok(())
    });
    call::delete(id)?;
    ns
}

/// Maps and touches a persistent object; the unmapping is not counted.
fn map(rounds: u64) -> Result<u64, Error> {
    let id = small_object(ObjectFlags::PERSISTENT)?;
    let mut mappings = Vec::with_capacity(rounds as usize);
    let ns = times(rounds, || {
        let mapping = Mapping::unchecked(id, Rights::READ)?;
        mapping.read(BASE_OFFSET, &mut [0]);
        mappings.push(mapping);
        Ok(())
    });
    drop(mappings);
    call::delete(id)?;
    ns
}

fn create_delete(rounds: u64) -> Result<u64, Error> {
    times(rounds, || call::delete(small_object(ObjectFlags::empty())?))
}

fn create_volatile(rounds: u64) -> Result<u64, Error> {
    create_or_delete(ObjectFlags::empty(), rounds, |create, _| create)
}

fn delete_volatile(rounds: u64) -> Result<u64, Error> {
    create_or_delete(ObjectFlags::empty(), rounds, |_, delete| delete)
}

fn create_persistent(rounds: u64) -> Result<u64, Error> {
    create_or_delete(ObjectFlags::PERSISTENT, rounds, |create, _| create)
}

fn delete_persistent(rounds: u64) -> Result<u64, Error> {
    create_or_delete(ObjectFlags::PERSISTENT, rounds, |_, delete| delete)
}

fn create_or_delete(flags: ObjectFlags, rounds: u64, choose: fn(u64, u64) -> u64) -> Result<u64, Error> {
    let mut ids = Vec::with_capacity(rounds as usize);
    let create = times(rounds, || {
        ids.push(call::create(flags, USUAL_RIGHTS)?);
        Ok(())
    });
    let mut ids = ids.into_iter();
    let delete = timed(|| ids.try_for_each(call::delete));
    Ok(choose(create?, delete?))
}

/// Two threads hand the CPU to each other.
fn yield_switch(rounds: u64) -> Result<u64, Error> {
    let hand_over = move || (0..rounds / 2).for_each(|_| call::thread_yield());
    timed(|| {
        let other = thread::spawn("other", hand_over)?;
        hand_over();
        other.join().map_err(|_| Error::Interrupted)
    })
}

/// There and back again.
fn ping_pong(rounds: u64) -> Result<u64, Error> {
    let turn = Arc::new(AtomicU64::new(0));
    let theirs = Arc::clone(&turn);
    timed(|| {
        let other = thread::spawn("other", move || play(&theirs, 1, rounds))?;
        play(&turn, 0, rounds);
        other.join().map_err(|_| Error::Interrupted)
    })
}

fn play(turn: &AtomicU64, me: u64, rounds: u64) {
    for _ in 0..rounds {
        // Acquire and release hand the turn from one to the other.
        while turn.load(Ordering::Acquire) != me {
            let _ = sync::wait_while(turn, 1 - me, sync::FOR_EVER);
        }
        turn.store(1 - me, Ordering::Release);
        sync::wake_some(turn, 1);
    }
}

fn sync_wake(rounds: u64) -> Result<u64, Error> {
    let word = AtomicU64::new(0);
    times(rounds, || {
        sync::wake_some(&word, 1);
        Ok(())
    })
}

fn clock(rounds: u64) -> Result<u64, Error> {
    times(rounds, || {
        core::hint::black_box(system::now_ns());
        Ok(())
    })
}

fn spawn_join(rounds: u64) -> Result<u64, Error> {
    times(rounds, || thread::spawn("short", || ())?.join().map_err(|_| Error::Interrupted))
}

fn random(rounds: u64) -> Result<u64, Error> {
    let mut bytes = [0; 16];
    times(rounds, || call::random(&mut bytes))
}
