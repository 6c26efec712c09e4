//! The store's operations, cut off at every point.

use twizzler_campaign::store::{CROWDED, Formatting, Op, Script};
use twizzler_crashsim::{Config, Effort, Report, Rng, check_crashes, seed_from_environment};
use twizzler_store::Batch;

fn survives(ops: Vec<Op>) -> Report {
    let report = check_crashes(&Script::new(ops.clone()), &Config::default());
    let report = report.unwrap_or_else(|failure| panic!("{ops:?}: {failure}"));
    println!("{ops:?}: {report}");
    report
}

#[test]
fn create_and_delete() {
    survives(vec![Op::Create(0), Op::Create(1), Op::Delete(0), Op::Create(2), Op::Delete(2), Op::Delete(1)]);
}

#[test]
fn write_and_fill() {
    survives(vec![
        Op::Create(0),
        Op::Write(0, 2, 5),
        Op::Write(0, 2, 6),
        Op::Fill(0, 3, Batch::Line),
        Op::Write(0, 3, 7),
        Op::Fill(0, 64, Batch::Page),
        Op::Write(0, 600, 8),
    ]);
}

#[test]
fn populate_and_discard() {
    survives(vec![
        Op::Create(0),
        Op::Populate(0, 2..12),
        Op::Write(0, 7, 1),
        Op::Write(0, 8, 2),
        Op::Discard(0, 7..9),
        Op::Write(0, 8, 3),
        Op::Write(0, 512, 4),
        Op::Discard(0, 8..600),
    ]);
}

#[test]
fn types_and_names() {
    survives(vec![
        Op::Create(0),
        Op::SetType(0, 77),
        Op::NamesRoot(0),
        Op::Shutdown,
        Op::Create(1),
        Op::NamesRoot(1),
    ]);
}

#[test]
fn mounting_elsewhere() {
    let ops = vec![Op::Create(0), Op::Write(0, 2, 5), Op::Create(1), Op::Write(1, 512, 6), Op::Delete(0)];
    let config = Config { nested_one_in: 2, ..Config::default() };
    let report = check_crashes(&Script { moves: true, ..Script::new(ops) }, &config);
    println!("{}", report.unwrap_or_else(|failure| panic!("{failure}")));
}

/// As many objects as a bucket of the table holds, and then some.
fn crowd(numbers: std::ops::Range<u8>) {
    let (before, after) = (numbers.start..numbers.start + 63, numbers.start + 63..numbers.start + 66);
    let mut script = Script::new(after.clone().map(Op::Create).chain([Op::Delete(before.start)]).collect());
    script.before.extend(before.map(Op::Create));
    let effort = Effort { exhaustive: 16, samples: 8, singles: 8 };
    let config = Config { effort, nested: None, ..Config::default() };
    let report = check_crashes(&script, &config).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{report}");
}

#[test]
fn a_bucket_that_splits() {
    crowd(10..80);
}

#[test]
fn a_bucket_that_no_split_helps() {
    crowd(CROWDED);
}

#[test]
fn formatting() {
    for over_another in [false, true] {
        let report = check_crashes(&Formatting { over_another }, &Config::default());
        println!("{}", report.unwrap_or_else(|failure| panic!("{failure}")));
    }
}

#[test]
fn random_scripts() {
    let first = seed_from_environment().unwrap_or(1);
    for seed in first..first + 4 {
        let script = Script::random(&mut Rng::new(seed), 6);
        let config = Config { seed, ..Config::default() };
        let report =
            check_crashes(&script, &config).unwrap_or_else(|failure| panic!("{script:?}: {failure}"));
        println!("{seed}: {report}");
    }
}
