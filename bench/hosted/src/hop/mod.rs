//! Section `hop`: what following a pointer costs, by where it leads and how much memory it leads through.

mod ours;
#[cfg(feature = "peers")]
mod pmem;
mod raw;
mod ring;

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use twizzler_object::Space;

use crate::Context;
use crate::backend::{Caches, Memory};
use crate::count;
use crate::engine::{Survives, open_store};
use crate::measure::{Contender, Effort, Tail, Warm, compete};
use crate::report::{Contest, Row};
use ring::Ring;

const RAW: &str = "plain pointer, same layout";
const PACKED: &str = "plain pointer, one packed heap";
const OURS: &str = "invariant pointer";
const CURSOR: &str = "invariant pointer, by a cursor";
#[cfg(feature = "peers")]
const DIRECT: &str = "pmemobj_direct";
#[cfg(feature = "peers")]
const BASE: &str = "offset from the base";
#[cfg(feature = "peers")]
const BASES: &str = "table of bases";
#[cfg(feature = "peers")]
const RAW_IN_POOLS: &str = "plain pointer in its pools";

/// How much memory a ring takes, by the cache that it is to fit.
const SETS: [(&str, u64); 4] = [("L1", 16 << 10), ("L2", 1 << 20), ("L3", 24 << 20), ("DRAM", 256 << 20)];
const NODE_BYTES: u64 = 64;
/// Hops that are counted.
const COUNTED: u64 = 100;

pub(crate) const NOTES: [&str; 6] = [
    "A hop loads a pointer from a node of one cache line, finds the node that it leads to, and goes on there; the order is random, so each \
     hop waits for the one before. All nodes also hold the same pointer as a plain address: *plain pointer, same layout* chases that through the \
     very same memory. *One packed heap* has the nodes in one array.",
    "Everything lies in files on tmpfs: our objects, the array, and libpmemobj's pools, one for each object. Yet a plain pointer takes another time in each, as pages \
     lie elsewhere: so in DRAM there is also a goal for what each adds to a plain pointer in its own memory. Its pointers have 16 bytes; `pmemobj_direct` is inlined from its header. *Offset from the \
     base* is the idiom that people use instead where all data lies in one pool; with several, a table of bases. Pages of 4 KiB everywhere: huge \
     pages are switched off for the whole program.",
    "A *cursor* keeps the start of the range that it is in, as a program does that walks far.",
    "*Cold* is the first hop through each pointer to an object that is mapped, but that this pointer's object has not led to before.",
    "Everybody chases another part of the ring, so that nobody finds in the caches what another one has just brought there. Instructions are exact: a child is run step by step.",
    "The caches: L1 16 KiB of nodes, L2 1 MiB, L3 24 MiB, DRAM 256 MiB. The host's L3 is shared with other machines, and its page tables take part.",
];

/// Measures.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    let mut contests = Vec::new();
    let numbers: &[u32] = if context.quick { &[1, 32] } else { &[1, 2, 8, 32, 256] };
    for (set, bytes) in SETS {
        if matches!(set, "L3" | "DRAM") && context.quick {
            continue;
        }
        for &objects in numbers {
            contests.push(warm(context, set, bytes, objects)?);
        }
    }
    contests.push(cold(context)?);
    Ok(contests)
}

fn warm(context: &Context, set: &str, bytes: u64, objects: u32) -> Result<Contest> {
    let ring = Ring::new(objects, (bytes / NODE_BYTES) as u32, &mut StdRng::seed_from_u64(13));
    let filler = std::hint::black_box(filler(set));
    let folder = context.memory_folder()?;
    let store = open_store(folder.path(), Survives::PersistentMemory)?;
    let space = store.space();
    let ids = ours::build(space, &ring)?;
    let guard = space.enter();
    // Apart, so that none finds in the caches what another one has just followed in the same memory.
    let third = ring.visits.len() / 3;
    let mut chaser = ours::Chaser::new(&guard, &ids, &ring, third)?;
    let mut cursor = ours::Chaser::new(&guard, &ids, &ring, 2 * third)?;
    let mut raw = ours::Chaser::new(&guard, &ids, &ring, 0)?;
    let mut packed = raw::Heap::new(folder.path(), &ring)?;
    #[cfg(feature = "peers")]
    let pools = pmem::Pools::new(folder.path(), &ring)?;
    let counts = |name: &str| {
        let counts =
            if set == "L1" { count::of(&format!("hop\n{objects}\n{name}"), COUNTED) } else { Vec::new() };
        counts.into_iter().filter(|(_, value)| *value > 0.0).collect::<Vec<_>>()
    };
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "peers are added"))]
    let mut contenders = vec![
        Contender::new(RAW, |number| raw.chase_raw(number)).counting(counts(RAW)),
        Contender::new(PACKED, |number| packed.chase(number)),
        Contender::new(OURS, |number| chaser.chase(number)).counting(counts(OURS)),
        Contender::new(CURSOR, |number| cursor.chase_by_cursor(number)).counting(counts(CURSOR)),
    ];
    #[cfg(feature = "peers")]
    {
        use pmem::Way;
        let pools = &pools;
        let base = if objects == 1 { (BASE, Way::Base) } else { (BASES, Way::Bases) };
        for (name, way) in [(DIRECT, Way::Direct), base, (RAW_IN_POOLS, Way::Raw)] {
            let counts = if name == RAW_IN_POOLS { Vec::new() } else { counts(name) };
            contenders.push(Contender::new(name, move |number| pools.chase(way, number)).counting(counts));
        }
    }
    let title = match objects {
        1 => format!("local, {set}"),
        _ => format!("across {objects} objects, {set}"),
    };
    let effort = match set {
        "L1" => context.effort(),
        // Once around, so that the caches hold what they can of the ring.
        "L2" | "L3" => context.effort().warmed(ring.visits.len() as u64),
        _ => {
            forget(&filler);
            // As many hops as there are pages, so that their translations are where the caches hold them, and not where the last one left them.
            let warm = Warm::Operations(bytes / 4096);
            Effort { round: Duration::from_millis(4), rounds: 11, warm }
        }
    };
    let mut contest = compete(title, RAW, effort, Tail::OfRounds, contenders);
    aim(&mut contest, set, objects);
    Ok(contest)
}

/// Memory beside a ring that caches don't hold. Taken before the ring's, so that the host's scattered free pages are used up by this and not by who is
/// built first: a page among strangers costs more to translate.
fn filler(set: &str) -> Vec<u8> {
    const BYTES: usize = 2 << 30;
    if set == "DRAM" { vec![1; BYTES] } else { Vec::new() }
}

/// Fills the caches with something else: what was built last would be found there, the rest not.
fn forget(filler: &[u8]) {
    std::hint::black_box(filler.iter().step_by(64).map(|&byte| u64::from(byte)).sum::<u64>());
}

/// The targets of the design, section 13.
fn aim(contest: &mut Contest, set: &str, objects: u32) {
    let median = |name: &str| contest.row(name).map(|row: &Row| row.median);
    let (Some(raw), Some(ours)) = (median(RAW), median(OURS)) else { return };
    let (direct, cursor) = (median("pmemobj_direct"), median(CURSOR));
    let in_pools = median("plain pointer in its pools");
    match (set, objects) {
        ("L1", 1) => {
            contest.aim("ns over a plain pointer", ours - raw, 1.0);
            if let Some(cursor) = cursor {
                contest.aim("ns over a plain pointer, by a cursor", cursor - raw, 0.5);
            }
        }
        ("L1", 2..=32) => contest.aim("ns over a plain pointer", ours - raw, 3.0),
        ("DRAM", 1) => contest.aim("of a plain pointer's time", ours / raw, 1.03),
        ("DRAM", _) => contest.aim("of a plain pointer's time", ours / raw, 1.05),
        _ => {}
    }
    match (direct, set, objects) {
        (Some(direct), "L1", 2..=32) => contest.aim("of libpmemobj's time", ours / direct, 1.0 / 1.5),
        (Some(direct), "L1" | "DRAM", _) => {
            contest.aim("of libpmemobj's time", ours / direct, 1.0);
            if let (Some(in_pools), "DRAM") = (in_pools, set) {
                let over = (ours / raw) / (direct / in_pools);
                contest.aim("of libpmemobj's time, each over a plain pointer in the same memory", over, 1.0);
            }
        }
        _ => {}
    }
}

/// Is counted while it follows pointers.
///
/// # Errors
/// The task is none.
pub(crate) fn be_counted(task: &str) -> Result<()> {
    let (objects, name) = task.split_once('\n').context("objects, and who")?;
    let (_, bytes) = SETS[0];
    let ring = Ring::new(objects.parse()?, (bytes / NODE_BYTES) as u32, &mut StdRng::seed_from_u64(13));
    #[cfg(feature = "peers")]
    if let Some(way) = [(DIRECT, pmem::Way::Direct), (BASE, pmem::Way::Base), (BASES, pmem::Way::Bases)]
        .iter()
        .find_map(|&(known, way)| (known == name).then_some(way))
    {
        let folder = tempfile::tempdir_in("/dev/shm")?;
        let pools = pmem::Pools::new(folder.path(), &ring)?;
        // Their files are mapped by now, and this program will be ended where it stands.
        folder.close()?;
        return count::be_counted(|number| pools.chase(way, number));
    }
    let backend = Memory::new(Caches::Lost);
    let space = Space::attach(&backend)?;
    let ids = ours::build(&space, &ring)?;
    let guard = space.enter();
    let mut chaser = ours::Chaser::new(&guard, &ids, &ring, 0)?;
    count::be_counted(|number| match name {
        RAW => chaser.chase_raw(number),
        OURS => chaser.chase(number),
        _ => chaser.chase_by_cursor(number),
    })
}

fn cold(context: &Context) -> Result<Contest> {
    const OBJECTS: u32 = 32;
    // As many pairs of objects as there are nodes: each hop of the first time round is the first through its FOT entry.
    let ring = Ring::new(OBJECTS, OBJECTS * 8, &mut StdRng::seed_from_u64(17));
    let backend = Memory::new(Caches::Lost);
    let ids = ours::build(&Space::attach(&backend)?, &ring)?;
    let hops = ring.first_hops();
    let cold = |number: u64| {
        let mut took = std::time::Duration::ZERO;
        let mut left = number;
        while left > 0 {
            // A program of its own: its translation table is empty.
            let space = Space::attach(&backend).expect("the memory is whole");
            let guard = space.enter();
            let mut chaser = ours::Chaser::new(&guard, &ids, &ring, 0).expect("the ring is whole");
            let now = left.min(hops);
            took += chaser.chase(now);
            left -= now;
        }
        took
    };
    let space = Space::attach(&backend)?;
    let guard = space.enter();
    let mut warm = ours::Chaser::new(&guard, &ids, &ring, 0)?;
    let mut raw = ours::Chaser::new(&guard, &ids, &ring, 0)?;
    #[cfg(feature = "peers")]
    let folder = context.memory_folder()?;
    #[cfg(feature = "peers")]
    let pools = pmem::Pools::new(folder.path(), &ring)?;
    #[cfg_attr(not(feature = "peers"), expect(unused_mut, reason = "peers are added"))]
    let mut contenders = vec![
        Contender::new(RAW, |number| raw.chase_raw(number)),
        Contender::new("invariant pointer, warm", |number| warm.chase(number)),
        Contender::new("invariant pointer, cold", cold),
    ];
    #[cfg(feature = "peers")]
    contenders.push(Contender::new(DIRECT, |number| pools.chase(pmem::Way::Direct, number)));
    Ok(compete("cold, across 32 objects", RAW, context.effort(), Tail::OfRounds, contenders))
}
