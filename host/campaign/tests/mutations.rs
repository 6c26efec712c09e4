//! Each flush and each fence of the store's operations, left out in turn: a crash must show it.
//!
//! A site is a place in the code with its callers. What one script doesn't miss another may: zeroed frames that
//! nobody used yet, say. So each site must be missed by some script.

use twizzler_campaign::lists::Change;
use twizzler_campaign::session::{Command, Session, file};
use twizzler_campaign::store::{Formatting, Op, Script};
use twizzler_crashsim::{Config, Mutations, Scenario, mutation_run};

/// Sites that nobody misses, by words that they contain, and why that is right.
const REDUNDANT: &[(&[&str], &str)] = &[
    (
        &["fence", "Nvm<P,L>::zero"],
        "frames are fenced again before they are linked; but another CPU may take some that were zeroed ahead",
    ),
    (&["flush", "write_body"], "body and commit word share a line, so the commit's flush covers both"),
    (&["fence", "State::replace"], "the check code refuses mixtures too; but with a chance of 2^-32"),
    (
        &["flush", "State::write_first"],
        "either copy of the state is enough; the other is for media that fail",
    ),
    (
        &["fence", "link_table"],
        "the leaves' fence follows, by the same CPU; but another may fill the table first",
    ),
    (
        &["store_durably", "claim_lane"],
        "shows only when recovery is cut off too: session.rs, what_recovery_took_for_void_stays_void",
    ),
    (&["store_durably", "add_lane"], "the owner word, made durable next, shares the line"),
    (&["store_durably", "open_well_known"], "whoever opens the object next does it again"),
    (
        &["name_type", "open_well_known"],
        "a name this short shares a line with the length, which is flushed next",
    ),
    (
        &["flush", "store_flushed", "commit::<impl"],
        "versions order the records of several lanes; here is one program",
    ),
    (
        &["settle (commit.rs", "transact_once"],
        "how descriptions of types are made: one that a crash takes back is made again with the next object of its type, and no command \
         promises it (session.rs looks that each is whole or not there); the same flushes and fences are missed where `transact` settles",
    ),
    (
        &["Fresh::wrote", "types::publish"],
        "the name of a description's own type, which nothing reads but `show`",
    ),
    (&["Fresh::wrote", "Tx<B>::put", "Tx<B>::write"], "the same, where the compiler has inlined less"),
    (&["flush_applied"], "no ID comes back in these scripts; in crash_again.rs one does, and misses it"),
    (&["store_durably", "perform_deletes"], "the same"),
    (&["store_durably", "forget_intents"], "the same"),
    (
        &["recover::<impl", "recover_"],
        "recovery in these scripts finds nothing unfinished; session.rs cuts off recovery that does",
    ),
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
        .filter(|site| !REDUNDANT.iter().any(|(parts, _)| parts.iter().all(|part| site.contains(part))))
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
fn transactions() {
    let mut found = Mutations::default();
    let list = |change| vec![Command::List(change)];
    run(&mut found, "first", &Session::new(vec![], list(Change::Push(0, 0, 3))));
    let changes = [Change::Push(0, 1, 3), Change::Pop(0), Change::Point(0, 1), Change::Move(0, 1)];
    let program = changes.map(Command::List).to_vec();
    run(&mut found, "lists", &Session { before: list(Change::Push(0, 0, 3)), programs: vec![program] });
    let files = vec![file("b", "y"), Command::Rename("b".into(), "c".into()), Command::Delete("a".into())];
    run(&mut found, "files", &Session { before: vec![file("a", "x")], programs: vec![files] });
    nobody_survives(&found);
}

#[test]
fn format() {
    let mut found = Mutations::default();
    run(&mut found, "format over another", &Formatting { over_another: true });
    nobody_survives(&found);
}
