//! Stores: made, opened, closed, shared, refused.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::{logged, place};
use twizzler::{Durability, Error, Mode, NameError, Names, Options, Store, StoreError};

fn options() -> Options {
    Options::new().durability(Durability::ProcessKill)
}

fn write(store: &Store, name: &str, text: &str) {
    let guard = store.enter();
    let names = Names::open(&guard).expect("names");
    guard
        .transact(|tx| {
            let file = names.create_any(tx, name)?;
            tx.write_at(file, 0, text.as_bytes())?;
            tx.set_len_bytes(file, text.len() as u64)?;
            Ok::<_, NameError>(())
        })
        .expect("room");
}

fn read(store: &Store, name: &str) -> Option<String> {
    let guard = store.enter();
    let names = Names::open(&guard).expect("names");
    let id = names.object(name).ok()?;
    let area = guard.open_any(id, twizzler::Access::Read).expect("an object");
    let bytes = guard.to_vec(guard.content(area));
    Some(String::from_utf8(bytes).expect("text"))
}

#[test]
fn what_was_committed_is_there_when_the_store_is_opened_again() {
    let (_keep, path) = place();
    let store = options().create(&path).expect("new");
    write(&store, "a", "hello");
    store.close().expect("closes");
    for text in ["one", "two"] {
        let store = options().open(&path).expect("opens");
        assert_eq!(read(&store, "a").as_deref(), Some("hello"));
        write(&store, text, text);
    }
    let store = options().open(&path).expect("opens");
    assert_eq!(read(&store, "two").as_deref(), Some("two"));
}

#[test]
fn power_cut_durability_works_on_the_disk() {
    let (_keep, path) = place();
    let store = match Store::create(&path) {
        Err(StoreError::Unsuitable { .. }) => return, // temporary files lie in memory here
        result => result.expect("new"),
    };
    write(&store, "a", "hello");
    drop(store);
    assert_eq!(read(&Store::open(&path).expect("opens"), "a").as_deref(), Some("hello"));
}

#[test]
fn two_stores_of_one_process_share() {
    share(&options());
    share(&logged());
}

fn share(options: &Options) {
    let (_keep, path) = place();
    let one = options.create(&path).expect("new");
    let two = options.open(&path).expect("shared");
    write(&one, "a", "first");
    assert_eq!(read(&two, "a").as_deref(), Some("first"));
    write(&two, "b", "second");
    drop(two);
    assert_eq!(read(&one, "b").as_deref(), Some("second"));
}

#[test]
fn what_is_no_store_is_refused_by_what_it_is() {
    let (keep, path) = place();
    assert!(matches!(options().open(&path), Err(StoreError::Missing { .. })));
    fs::write(&path, "text").expect("written");
    assert!(matches!(options().open(&path), Err(StoreError::NotADirectory { .. })));
    assert!(matches!(options().create(&path), Err(StoreError::NotADirectory { .. })));
    assert!(matches!(options().open(keep.path()), Err(StoreError::NotAStore { .. })));
    assert!(matches!(options().create(keep.path()), Err(StoreError::NotEmpty { .. })));
    let small = options().log_bytes(1000).create(keep.path().join("other"));
    assert!(matches!(small, Err(StoreError::TooSmall { .. })));
}

#[test]
fn main_memory_does_not_survive_a_power_cut() {
    let Ok(keep) = tempfile::tempdir_in("/dev/shm") else { return };
    let refused = Store::create(keep.path().join("here"));
    assert!(matches!(refused, Err(StoreError::Unsuitable { .. })), "{refused:?}");
    drop(options().create(keep.path().join("there")).expect("killed processes it does survive"));
}

#[test]
fn a_store_is_made_once() {
    let (_keep, path) = place();
    drop(options().create(&path).expect("new"));
    assert!(matches!(options().create(&path), Err(StoreError::Exists { .. })));
    drop(options().open_or_create(&path).expect("there"));
}

#[test]
fn making_one_may_be_cut_off_and_done_again() {
    let (_keep, path) = place();
    fs::create_dir_all(path.join("objects")).expect("made");
    fs::write(path.join("lock"), "").expect("made");
    fs::write(path.join("store.new"), "half").expect("made");
    assert!(matches!(options().open(&path), Err(StoreError::NotAStore { .. })));
    write(&options().create(&path).expect("made whole"), "a", "b");
}

fn change_description(path: &Path, at: u64, byte: u8) {
    let file = fs::OpenOptions::new().write(true).open(path.join("store")).expect("there");
    file.write_all_at(&[byte], at).expect("written");
}

#[test]
fn a_damaged_or_newer_description_is_refused() {
    let (_keep, path) = place();
    drop(options().create(&path).expect("new"));
    change_description(&path, 100, 1);
    assert!(matches!(options().open(&path), Err(StoreError::Damaged { .. })));
    change_description(&path, 8, 2);
    assert!(matches!(options().open(&path), Err(StoreError::Newer { version: 2, .. })));
    change_description(&path, 0, b'x');
    assert!(matches!(options().open(&path), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_store_of_lower_durability_never_claims_the_higher() {
    let (_keep, path) = place();
    drop(options().create(&path).expect("new"));
    let refused = Store::open(&path);
    assert!(
        matches!(refused, Err(StoreError::Durability { store: Durability::ProcessKill, .. })),
        "{refused:?}"
    );
    drop(Options::new().any_durability().open(&path).expect("a tool opens all"));
}

#[test]
fn a_log_is_written_over_and_over() {
    let (_keep, path) = place();
    let store = logged().create(&path).expect("new");
    let text = "x".repeat(60_000);
    for n in 0..60 {
        write(&store, &format!("file {n}"), &text);
    }
    drop(store);
    let store = logged().open(&path).expect("opens");
    assert_eq!(store.backend().replayed(), twizzler::Replayed::default(), "it was closed in order");
    for n in 0..60 {
        assert_eq!(read(&store, &format!("file {n}")).as_deref(), Some(&text[..]));
    }
}

#[test]
fn readers_can_not_write() {
    for options in [options(), logged()] {
        for shared in [true, false] {
            let (_keep, path) = place();
            let store = options.create(&path).expect("new");
            write(&store, "a", "hello");
            let store = shared.then_some(store);
            let reader = options.clone().mode(Mode::Read).open(&path).expect("readable");
            let guard = reader.enter();
            let id = Names::open(&guard).expect("names").object("a").expect("there");
            let area = guard.open_any(id, twizzler::Access::Read).expect("readable");
            assert_eq!(guard.to_vec(guard.content(area)), b"hello");
            assert!(matches!(guard.open_any(id, twizzler::Access::Write), Err(Error::AccessDenied)));
            assert_eq!(reader.transact(|tx| tx.create_any().map(drop)), Err(Error::ReadOnly));
            drop(store);
        }
    }
}

#[test]
fn what_is_larger_than_the_logs_ring_commits_as_well() {
    let (_keep, path) = place();
    let options = logged().log_bytes(16 << 20);
    let store = options.create(&path).expect("new");
    let text =
        |fill: u8, len: usize| -> String { (0..len).map(|at| char::from(fill + (at % 7) as u8)).collect() };
    // Written in place.
    write(&store, "new", &text(b'a', 9 << 20));
    // In the log, over and over.
    let id = Names::open(&store.enter()).expect("names").object("new").expect("there");
    for round in 0..8 {
        let guard = store.enter();
        let area = guard.open_any(id, twizzler::Access::Write).expect("there");
        guard.transact(|tx| tx.write_at(area, 1000, text(b'b' + round, 3 << 20).as_bytes())).expect("room");
    }
    let guard = store.enter();
    let area = guard.open_any(id, twizzler::Access::Write).expect("there");
    let huge = text(b'x', 5 << 20);
    assert_eq!(guard.transact(|tx| tx.write_at(area, 0, huge.as_bytes())), Err(Error::OutOfRange));
    drop(guard);
    // As a power cut leaves it, but for what the disk loses.
    let copy = path.with_file_name("copy");
    let copied =
        std::process::Command::new("cp").args(["-r", "--sparse=always"]).args([&path, &copy]).status();
    assert!(copied.expect("cp runs").success());
    let found = read(&options.open(&copy).expect("recovers"), "new").expect("there");
    let wanted = text(b'a', 9 << 20);
    assert!(found[..1000] == wanted[..1000] && found[1000 + (3 << 20)..] == wanted[1000 + (3 << 20)..]);
    assert!(found[1000..1000 + (3 << 20)] == text(b'b' + 7, 3 << 20));
}
