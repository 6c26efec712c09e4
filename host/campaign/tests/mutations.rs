//! Each flush and each fence of the store's operations, left out in turn: a crash must show it.
//!
//! A site is a place in the code with its callers. What one script doesn't miss another may: zeroed frames that
//! nobody used yet, say. So each site must be missed by some script.

use twizzler_campaign::store::{Formatting, Op, Script};
use twizzler_crashsim::{Config, Mutations, Scenario, mutation_run};

/// Sites that nobody misses, and why that is right.
const REDUNDANT: &[(&str, &str)] = &[
    (
        "Nvm<P,L>::zero (mod.rs:123:20) < <twizzler_store::nvm::Nvm<P,L> as twizzler_store::frames::Frames>::allocate_many (mod.rs:197:22) < <twizzler_store::nvm::Nvm<P,L> as twizzler_store::frames::Frames>::allocate ",
        "frames that were zeroed ahead may be taken by another CPU at once; operations don't overlap here",
    ),
    ("State::replace (superblock.rs:204", "the check code refuses mixtures too; but with a chance of 2^-32"),
    ("State::write_first", "either copy of the state is enough; the other is for media that fail"),
    ("bucket::write_header", "headers are for repair; nothing reads them yet"),
    ("survey::survey", "nothing to recover here"),
    ("Table<P>::insert (mod.rs:107", "body and commit word share a line, so the commit's flush covers both"),
    ("copy_page", "extension records, which nothing writes yet; all else is written and flushed again"),
];

fn run<S: Scenario>(found: &mut Mutations, what: &str, scenario: &S) {
    let config = Config { nested: None, ..Config::default() };
    let now = mutation_run(scenario, &config).unwrap_or_else(|failure| panic!("{what}: {failure}"));
    println!("{what}: {} sites missed, {} not missed", now.missed.len(), now.never_missed().len());
    found.extend(now);
}

fn script(found: &mut Mutations, what: &str, before: &[Op], ops: &[Op]) {
    let mut script = Script::new(ops.to_vec());
    script.before.extend(before.to_vec());
    run(found, what, &script);
}

fn nobody_survives(found: &Mutations) {
    let left: Vec<&str> = found
        .never_missed()
        .into_iter()
        .filter(|site| !REDUNDANT.iter().any(|(part, _)| site.contains(part)))
        .collect();
    assert!(left.is_empty(), "never missed:\n  {}", left.join("\n  "));
}

#[test]
fn pages() {
    let mut found = Mutations::default();
    let one = [Op::Create(0)];
    script(&mut found, "write", &one, &[Op::Write(0, 2, 1), Op::Write(0, 2, 2)]);
    script(&mut found, "raise", &one, &[Op::Extend(0, 600), Op::Touch(0, 600, 1)]);
    script(&mut found, "touch", &one, &[Op::Touch(0, 2, 1), Op::Touch(0, 9, 2)]);
    script(&mut found, "chain", &[Op::Create(0), Op::Extend(0, 600)], &[Op::Touch(0, 512, 1)]);
    script(&mut found, "populate", &one, &[Op::Populate(0, 2..12), Op::Touch(0, 3, 1), Op::Touch(0, 9, 2)]);
    script(
        &mut found,
        "populate a table",
        &[Op::Create(0), Op::Extend(0, 600)],
        &[Op::Populate(0, 512..514), Op::Touch(0, 512, 1)],
    );
    let before = [Op::Create(0), Op::Write(0, 2, 1), Op::Write(0, 8, 1), Op::Write(0, 600, 1)];
    script(&mut found, "discard pages", &before, &[Op::Discard(0, 2..9), Op::Write(0, 7, 3)]);
    script(&mut found, "discard a table", &before, &[Op::Discard(0, 2..1024), Op::Write(0, 600, 3)]);
    nobody_survives(&found);
}

#[test]
fn objects() {
    let mut found = Mutations::default();
    script(&mut found, "create", &[], &[Op::Create(4), Op::Touch(4, 2, 1), Op::Create(5)]);
    let before = [Op::Create(0), Op::Write(0, 2, 1), Op::Create(1)];
    script(&mut found, "delete", &before, &[Op::Delete(0), Op::Create(2)]);
    script(&mut found, "set type", &[Op::Create(0)], &[Op::SetType(0, 5)]);
    script(&mut found, "names root", &[Op::Create(0)], &[Op::NamesRoot(0), Op::NamesRoot(1), Op::Shutdown]);
    nobody_survives(&found);
}

#[test]
fn format() {
    let mut found = Mutations::default();
    run(&mut found, "format over another", &Formatting { over_another: true });
    nobody_survives(&found);
}
