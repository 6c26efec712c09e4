//! Section `tx`: what a durable transaction costs where flush and fence make durable.

mod ours;
#[cfg(feature = "peers")]
mod pmem;

use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::Context;
use crate::backend::{Caches, Memory};
use crate::count;
use crate::measure::{Contender, Effort, Tail, Warm, compete};
use crate::report::Contest;
use ours::Bench;

const OURS: &str = "Twizzler";
const ALONE: &str = "Twizzler, our work alone";
const PEER: &str = "libpmemobj";
const DURABLE: &str = "durable";
/// Transactions that are counted.
const COUNTED: u64 = 4;

/// What a transaction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Empty,
    Write8,
    Ranges8,
    Write4K,
    Replace,
    AllocThenFree,
    TwoObjects,
}

/// Each with its name and its target: at most so much of libpmemobj's time (design, section 13).
const OPERATIONS: [(Operation, &str, Option<f64>); 7] = [
    (Operation::Empty, "empty", None),
    (Operation::Write8, "8 bytes", Some(0.5)),
    (Operation::Ranges8, "8 ranges of 8 bytes, each in a line of its own", Some(0.25)),
    (Operation::Write4K, "4 KiB", None),
    (Operation::Replace, "allocate 64 bytes, point to them, free the old ones", Some(0.5)),
    (Operation::AllocThenFree, "allocate in one transaction, free in the next", Some(0.5)),
    (Operation::TwoObjects, "8 bytes in each of two objects", None),
];

pub(crate) const NOTES: [&str; 2] = [
    "Each transaction is durable when it ends. Memory is ordinary memory that stands for persistent memory: flushes and fences are the processor's own \
     instructions, the media's latency is missing on both sides. libpmemobj: pools on tmpfs with `PMEM_IS_PMEM_FORCE=1`, `TX_BEGIN`, \
     `pmemobj_tx_add_range_direct`, `pmemobj_tx_zalloc`, `pmemobj_tx_free`; *atomic* is `pmemobj_zalloc` and `pmemobj_free` without a transaction. It has no transaction \
     over two pools: *two objects* are two transactions there, which are not atomic together. Times are processor times; p99 includes 0.2 us of the clock. Two threads: half of the processor time of both, \
     so it would not show if they waited for each other; they have no reason to, as each has an object, or memory, of its own.",
    "*Our work alone* leaves flushes and fences out: nothing of it would be durable. Instructions, flushes (lines) and fences are exact, for everybody: children are run step by step, while \
     they do 4 transactions more than before. *Streamed* is what is stored past the caches and needs no flush: records, and libpmemobj's log.",
];

pub(crate) const NOTES_CACHES: [&str; 1] = [
    "The write-back instructions are left out on both sides, as on a machine whose caches survive a power cut (`PMEM_NO_FLUSH=1`); fences remain.",
];

/// Measures.
pub(crate) fn run(context: &Context, caches: Caches) -> Result<Vec<Contest>> {
    let mut contests = Vec::new();
    for (operation, name, goal) in OPERATIONS {
        contests.push(contest(context, caches, operation, name, goal)?);
    }
    for (operation, name, _) in OPERATIONS {
        contests.extend(two_threads(context, caches, operation, name)?);
    }
    Ok(contests)
}

fn contest(
    context: &Context,
    caches: Caches,
    operation: Operation,
    name: &str,
    goal: Option<f64>,
) -> Result<Contest> {
    let (backend, ignorant) = (Memory::new(caches), Memory::new(Caches::Ignored));
    let (bench, alone) = (Bench::new(&backend)?, Bench::new(&ignorant)?);
    #[cfg(feature = "peers")]
    let folder = context.memory_folder()?;
    #[cfg(feature = "peers")]
    let peer = pmem::Peer::new(folder.path())?;
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "peers are added"))]
    let mut contenders = vec![
        Contender::new(OURS, |number| bench.run(operation, 0, number)).counting(counts(name, caches, OURS)),
        Contender::new(ALONE, |number| alone.run(operation, 0, number)).counting(counts(name, caches, ALONE)),
    ];
    #[cfg(feature = "peers")]
    let reference = {
        let peer = &peer;
        for (who, way) in pmem::ways(operation) {
            let peer = Contender::new(who, move |number| peer.run(way, 0, number));
            contenders.push(peer.counting(counts(name, caches, who)));
        }
        PEER
    };
    #[cfg(not(feature = "peers"))]
    let reference = OURS;
    let title = match caches {
        Caches::Durable => format!("{name}, caches persistent"),
        _ => name.to_owned(),
    };
    let singles = if context.quick { 100 } else { 2000 };
    let mut contest = compete(title, reference, context.effort(), Tail::OfOperations(singles), contenders);
    let ratio = contest.row(OURS).map(|row| row.ratio);
    if let (Some(goal), Some(ratio), true) = (goal, ratio, reference == PEER) {
        contest.aim("of libpmemobj's time", ratio, goal);
    }
    if let Some(&(_, fences)) = contest.rows[0].counts.iter().find(|(name, _)| name == "fences") {
        let transactions = if operation == Operation::AllocThenFree { 2.0 } else { 1.0 };
        contest.aim("fences for a transaction", fences / transactions, 2.0);
    }
    Ok(contest)
}

/// Two threads at once, each with an object, or memory of one pool, of its own.
fn two_threads(
    context: &Context,
    caches: Caches,
    operation: Operation,
    name: &str,
) -> Result<Option<Contest>> {
    const TRIED: u64 = 1000;
    let backend = Memory::new(caches);
    let bench = Bench::new(&backend)?;
    let tried = std::thread::scope(|scope| {
        let other = scope.spawn(|| bench.try_run(operation, 1, TRIED));
        let own = bench.try_run(operation, 0, TRIED);
        other.join().expect("no thread panics").and(own)
    });
    if let Err(error) = tried {
        eprintln!("{name}, 2 threads: left out, as transactions fail: {error}");
        return Ok(None);
    }
    #[cfg(feature = "peers")]
    let folder = context.memory_folder()?;
    #[cfg(feature = "peers")]
    let peer = pmem::Peer::new(folder.path())?;
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "peers are added"))]
    let mut contenders = vec![Contender::new(OURS, |number| {
        at_once(number, |thread, number| bench.run(operation, thread, number))
    })];
    #[cfg(feature = "peers")]
    for (name, way) in pmem::ways(operation).into_iter().take(1) {
        let peer = &peer;
        contenders.push(Contender::new(name, move |number| {
            at_once(number, |thread, number| peer.run(way, thread, number))
        }));
    }
    let reference = if cfg!(feature = "peers") { PEER } else { OURS };
    // Long, so that both are at work most of the time.
    let effort = Effort { rounds: 21, round: Duration::from_millis(8), warm: Warm::Operations(1) };
    let effort = if context.quick { Effort { rounds: 3, ..effort } } else { effort };
    let title = match caches {
        Caches::Durable => format!("{name}, 2 threads, caches persistent"),
        _ => format!("{name}, 2 threads"),
    };
    Ok(Some(compete(title, reference, effort, Tail::OfRounds, contenders)))
}

/// Half of the processor time in which two threads at once have done so many operations together.
fn at_once(number: u64, work: impl Fn(usize, u64) -> Duration + Sync) -> Duration {
    let ready = Barrier::new(2);
    let one = |thread: usize| {
        ready.wait();
        work(thread, number.div_ceil(2))
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| one(1));
        (one(0) + other.join().expect("no thread panics")) / 2
    })
}

/// Is counted at transactions.
///
/// # Errors
/// The task is none.
pub(crate) fn be_counted(task: &str) -> Result<()> {
    let parts: Vec<&str> = task.split('\n').collect();
    let &[operation, caches, name] = parts.as_slice() else { bail!("operation, caches and who") };
    let (operation, ..) =
        OPERATIONS.into_iter().find(|(_, known, _)| *known == operation).context("an operation")?;
    #[cfg(feature = "peers")]
    if let Some((_, way)) = pmem::ways(operation).into_iter().find(|(known, _)| *known == name) {
        let folder = tempfile::tempdir_in("/dev/shm")?;
        let peer = pmem::Peer::new(folder.path())?;
        // Its files are mapped by now, and this program will be ended where it stands.
        folder.close()?;
        return count::be_counted(|number| peer.run(way, 0, number));
    }
    let caches = match (name, caches) {
        (ALONE, _) => Caches::Ignored,
        (_, DURABLE) => Caches::Durable,
        _ => Caches::Lost,
    };
    let backend = Memory::new(caches);
    let bench = Bench::new(&backend)?;
    count::be_counted(|number| bench.run(operation, 0, number))
}

/// Counts for one operation of that contender.
fn counts(name: &str, caches: Caches, who: &str) -> Vec<(String, f64)> {
    let caches = if caches == Caches::Durable { DURABLE } else { "lost" };
    count::of(&format!("tx\n{name}\n{caches}\n{who}"), COUNTED)
}
