//! Tree operations under the MMU model; and shootdowns that are wrong on purpose, which must be noticed.

use twizzler_campaign::mmu::{Flaw, Plan, run};
use twizzler_crashsim::seed_from_environment;

fn plan(seed: u64, flaw: Flaw) -> Plan {
    Plan { seed, operations: 300, flaw, warm_one_in: 2 }
}

#[test]
fn no_cpu_acts_on_what_is_no_longer_so() {
    let first = seed_from_environment().unwrap_or(1);
    for seed in first..first + 40 {
        run(plan(seed, Flaw::None)).unwrap_or_else(|violation| panic!("{violation}"));
    }
}

#[test]
fn each_flaw_is_noticed() {
    let flaws = [
        Flaw::Late,
        Flaw::PagesOnly,
        Flaw::SkipsContext,
        Flaw::SkipsCpu,
        Flaw::DropsFlushes,
        Flaw::ChangesPresent,
    ];
    for flaw in flaws {
        let noticed = (1..=8).any(|seed| run(plan(seed, flaw)).is_err());
        assert!(noticed, "{flaw:?}");
    }
}

#[test]
fn each_shootdown_is_missed_when_dropped() {
    for seed in 1..4 {
        let always_warm = Plan { warm_one_in: 1, operations: 60, ..plan(seed, Flaw::None) };
        let shootdowns = run(always_warm).unwrap_or_else(|violation| panic!("{violation}"));
        for (number, what) in shootdowns.iter().enumerate() {
            let dropped = Plan { flaw: Flaw::DropsShootdown(number), ..always_warm };
            assert!(run(dropped).is_err(), "seed {seed}: shootdown {number} was not missed: {what}");
        }
    }
}
