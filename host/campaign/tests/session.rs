//! Commands cut off at every point: lists, names, `kv` and `index`.

use twizzler_campaign::lists::Change;
use twizzler_campaign::session::{Command, Session, file, index, kv};
use twizzler_crashsim::{Config, Rng, check_crashes, seed_from_environment};

fn survives(before: Vec<Command>, commands: Vec<Command>) {
    holds(&Session::new(before, commands));
}

fn holds(session: &Session) {
    let report = check_crashes(session, &Config::default());
    println!("{}", report.unwrap_or_else(|failure| panic!("{session:?}: {failure}")));
}

#[test]
fn the_first_program() {
    survives(vec![], vec![file("a", "x")]);
}

#[test]
fn lists() {
    let changes = [
        Change::Push(0, 0, 3),
        Change::Push(0, 1, 2),
        Change::Move(0, 1),
        Change::Pop(0),
        Change::Point(1, 0),
        Change::GiveUp(1),
    ];
    survives(vec![], changes.map(Command::List).to_vec());
    let program = changes.map(Command::List).to_vec();
    holds(&Session { before: vec![], programs: vec![program.clone(), program] });
}

#[test]
fn names() {
    let before = vec![file("a", "one")];
    let commands = vec![
        file("a", "longer than before"),
        file("b", "two"),
        Command::Directory("d".into()),
        Command::Rename("a".into(), "d/a".into()),
        Command::Delete("b".into()),
    ];
    survives(before, commands);
}

#[test]
fn kv_commands() {
    let before = vec![kv("put s a 1"), kv("put t a 1"), file("lines", "k1\tv1\nk2\tv2\nk3\tv3\n")];
    survives(
        before,
        vec![kv("put s b 2"), kv("put s a 3"), kv("del s b"), kv("load s lines"), kv("put t x 1")],
    );
}

#[test]
fn index_commands() {
    let before = vec![file("a", "the cat\nthe dog\n"), file("b", "the end of the cat\n"), index("add a")];
    survives(before, vec![index("add b"), file("a", "dog dog\n"), index("add a b"), index("rm b")]);
}

#[test]
fn random_sessions() {
    let first = seed_from_environment().unwrap_or(1);
    for seed in first..first + 3 {
        let session = Session::random(&mut Rng::new(seed), 3);
        let config = Config { seed, ..Config::default() };
        let report =
            check_crashes(&session, &config).unwrap_or_else(|failure| panic!("{session:?}: {failure}"));
        println!("{seed}: {report}");
    }
}

/// A record that arrived without the generation that it is sealed with must stay void.
#[test]
fn what_recovery_took_for_void_stays_void() {
    let session = Session::new(vec![kv("put s a 1")], vec![Command::Directory("d".into())]);
    let config = Config { nested_one_in: 1, ..Config::default() };
    let report = check_crashes(&session, &config);
    println!("{}", report.unwrap_or_else(|failure| panic!("{failure}")));
}
