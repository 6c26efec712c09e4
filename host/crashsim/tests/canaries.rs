//! Structures that are wrong on purpose: the simulator must catch each, and pass the right one.

use twizzler_crashsim::{Config, Log, Scenario, SimMemory, check_crashes, mutation_run};
use twizzler_pmem::Persist;

/// A list of records of two lines each, behind a count word that commits them.
struct Records {
    flaw: Flaw,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    /// The count is stored before the body's fence.
    CommitBeforeFence,
    /// The body's last line is never flushed.
    LastLineUnflushed,
    /// The count is stored before the body is written at all.
    PublishBeforeWrite,
    /// Acknowledged before the count is durable.
    CommitUnfenced,
    /// Recovery moves the count in two steps.
    RecoveryNotIdempotent,
}

const COUNT: u64 = 0;
const RECORDS: u64 = 64;
const RECORD_BYTES: u64 = 128;

impl Records {
    fn append(&self, memory: &SimMemory, number: u64, value: u64) {
        let at = RECORDS + number * RECORD_BYTES;
        if self.flaw == Flaw::PublishBeforeWrite {
            memory.store(COUNT, number + 1);
            memory.persist(COUNT, 8);
        }
        memory.write(at, &[value as u8; RECORD_BYTES as usize]);
        let flushed = if self.flaw == Flaw::LastLineUnflushed { 64 } else { RECORD_BYTES };
        memory.flush(at, flushed);
        if self.flaw != Flaw::CommitBeforeFence {
            memory.fence();
        }
        memory.store(COUNT, number + 1); // COMMIT
        memory.flush(COUNT, 8);
        if self.flaw != Flaw::CommitUnfenced {
            memory.fence();
        }
    }
}

impl Scenario for Records {
    type State = Vec<u64>;

    fn len_bytes(&self) -> u64 {
        4096
    }

    fn setup(&self, _: &SimMemory) {}

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Self::State>) {
        for number in 0..4 {
            let mut after = log.acknowledged().clone();
            after.push(number + 1);
            log.operation(after, || self.append(memory, number, number + 1));
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<Self::State, String> {
        let count = memory.load(COUNT);
        if self.flaw == Flaw::RecoveryNotIdempotent && count > 0 {
            memory.store(COUNT, count - 1);
            memory.persist(COUNT, 8);
            memory.store(COUNT, count);
            memory.persist(COUNT, 8);
        }
        let record = |number| {
            let mut bytes = [0; RECORD_BYTES as usize];
            memory.read(RECORDS + number * RECORD_BYTES, &mut bytes);
            let whole = bytes.iter().all(|&byte| byte == bytes[0]);
            whole.then_some(u64::from(bytes[0])).ok_or_else(|| format!("record {number} is torn"))
        };
        (0..count).map(record).collect()
    }
}

fn config() -> Config {
    Config { nested_one_in: 1, ..Config::default() }
}

#[test]
fn the_right_structure_passes() {
    let report = check_crashes(&Records { flaw: Flaw::None }, &config()).expect("right");
    assert!(report.images > 50, "{report}");
    assert_eq!((report.counts.flushes, report.counts.fences), (8, 8));
}

#[test]
fn every_flaw_is_caught() {
    let flaws = [
        Flaw::CommitBeforeFence,
        Flaw::LastLineUnflushed,
        Flaw::PublishBeforeWrite,
        Flaw::CommitUnfenced,
        Flaw::RecoveryNotIdempotent,
    ];
    for flaw in flaws {
        assert!(check_crashes(&Records { flaw }, &config()).is_err(), "{flaw:?} was not caught");
    }
}

#[test]
fn every_dropped_flush_and_fence_is_caught() {
    let found = mutation_run(&Records { flaw: Flaw::None }, &config()).expect("right");
    assert_eq!((found.missed.len(), found.never_missed().len()), (4, 0), "{found}");
}

#[test]
fn a_superfluous_step_is_reported_with_its_place() {
    struct Twice(Records);
    impl Scenario for Twice {
        type State = Vec<u64>;
        fn len_bytes(&self) -> u64 {
            self.0.len_bytes()
        }
        fn setup(&self, _: &SimMemory) {}
        fn run(&self, memory: &SimMemory, log: &mut Log<'_, Self::State>) {
            log.operation(vec![1], || self.0.append(memory, 0, 1));
            superfluous(memory);
        }
        fn recover(&self, memory: &SimMemory) -> Result<Self::State, String> {
            self.0.recover(memory)
        }
    }
    #[inline(never)]
    fn superfluous(memory: &SimMemory) {
        memory.flush(COUNT, 8);
        memory.store(2048, 1);
        memory.persist(2048, 8);
    }
    let found = mutation_run(&Twice(Records { flaw: Flaw::None }), &config()).expect("right");
    assert_eq!((found.missed.len(), found.never_missed().len()), (4, 3), "{found}");
    assert!(found.never_missed().iter().all(|site| site.contains("superfluous")), "{found}");
}

#[test]
fn a_failure_is_replayed_by_its_seed() {
    let scenario = Records { flaw: Flaw::CommitBeforeFence };
    let config = Config {
        seed: 77,
        effort: twizzler_crashsim::Effort { exhaustive: 1, samples: 3, singles: 2 },
        ..config()
    };
    let first = check_crashes(&scenario, &config).expect_err("wrong");
    assert_eq!(check_crashes(&scenario, &config).expect_err("wrong"), first);
    assert!(first.to_string().contains("TWIZZLER_SEED=77"), "{first}");
}
