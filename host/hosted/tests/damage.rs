//! Stores that were made at the same time, copied in part, or spoiled: nothing is lost silently.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{logged, place};
use twizzler::{Access, Error, Mode, Names, Options, Ptr, Store, StoreError, Stored};

/// Names the store for [`one_of_many`].
const STORE: &str = "TWIZZLER_TEST_STORE";
/// Its name in it.
const NAME: &str = "TWIZZLER_TEST_NAME";

/// A base that counts.
#[derive(Stored)]
#[stored(name = "test.damage-count", version = 1)]
#[repr(C)]
struct Count {
    count: u64,
}

fn count_of(place: Ptr<'_, Count>) -> Ptr<'_, u64> {
    place.at(Count::count)
}

/// Counts on, one commit for each number, so that each is a write of the log of its own.
fn count_to(store: &Store, end: u64) {
    let guard = store.enter();
    let object = guard.well_known::<Count>(*b"the count object").expect("room");
    for number in 1..=end {
        guard.transact(|tx| tx.set(count_of(object.base()), number)).expect("room");
    }
}

fn count(store: &Store) -> u64 {
    let guard = store.enter();
    let object = guard.well_known::<Count>(*b"the count object").expect("room");
    guard.get(count_of(object.base()))
}

/// As a power cut leaves it, but for what the disk loses.
fn copy_of(path: &Path, name: &str) -> PathBuf {
    let copy = path.with_file_name(name);
    let copied = Command::new("cp").args(["-r", "--sparse=always"]).args([path, copy.as_path()]).status();
    assert!(copied.expect("cp runs").success());
    copy
}

/// The message of a refusal for damage.
fn damage(options: &Options, path: &Path) -> &'static str {
    match options.open(path) {
        Err(StoreError::Damaged { what }) => what,
        other => panic!("not refused as damaged: {other:?}"),
    }
}

#[test]
#[ignore = "a part of `processes_that_make_a_store_at_the_same_time_share_it`"]
fn one_of_many() {
    let path = std::env::var(STORE).expect("told");
    let name = std::env::var(NAME).expect("told");
    let store = logged().open_or_create(path).expect("there is one store for all");
    let guard = store.enter();
    let names = Names::open(&guard).expect("names");
    guard.transact(|tx| names.create_any(tx, &name).map(drop)).expect("room");
}

#[test]
fn processes_that_make_a_store_at_the_same_time_share_it() {
    const PROCESSES: usize = 5;
    for round in 0..6 {
        let (_keep, path) = place();
        let children: Vec<_> = (0..PROCESSES)
            .map(|number| {
                Command::new(std::env::current_exe().expect("this test"))
                    .args(["--exact", "one_of_many", "--ignored"])
                    .env(STORE, &path)
                    .env(NAME, number.to_string())
                    .output_in_background()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().expect("ours");
            assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stdout));
        }
        let store = logged().open(&path).expect("whole");
        let guard = store.enter();
        let names = Names::open(&guard).expect("names");
        for number in 0..PROCESSES {
            names.object(&number.to_string()).expect("what was committed is there");
        }
    }
}

/// Starting with the output kept.
trait Background {
    fn output_in_background(&mut self) -> std::process::Child;
}

impl Background for Command {
    fn output_in_background(&mut self) -> std::process::Child {
        self.stdout(std::process::Stdio::piped()).spawn().expect("this test runs")
    }
}

#[test]
fn no_store_is_made_over_objects_whose_description_is_gone() {
    let (_keep, path) = place();
    count_to(&logged().create(&path).expect("new"), 3);
    fs::remove_file(path.join("store")).expect("there");
    assert!(damage(&logged(), &path).contains("`store`"));
    for options in [logged(), logged().salvage()] {
        assert!(matches!(options.open_or_create(&path), Err(StoreError::Damaged { .. })));
        assert!(matches!(options.create(&path), Err(StoreError::Damaged { .. })));
    }
}

#[test]
fn a_log_that_is_damaged_in_the_middle_is_refused_and_can_be_salvaged() {
    let (_keep, path) = place();
    let store = logged().create(&path).expect("new");
    count_to(&store, 100);
    let in_use = store.backend().log_bytes_in_use();
    let spoil = |copy: &Path, at: u64| {
        let log = fs::OpenOptions::new().write(true).open(copy.join("log")).expect("there");
        log.write_all_at(&[0xa5; 512], 8192 + at / 512 * 512).expect("written");
    };
    for (name, at) in [("first", 0), ("middle", in_use / 2), ("last but one", in_use - 1024)] {
        let copy = copy_of(&path, name);
        spoil(&copy, at);
        let before = fs::read(copy.join("log")).expect("there");
        assert!(damage(&logged(), &copy).contains("in the middle"), "{name}");
        let read_only = logged().mode(Mode::Read).open(&copy);
        assert!(
            matches!(read_only, Err(StoreError::Damaged { .. } | StoreError::NeedsRecovery)),
            "{name}: {read_only:?}"
        );
        assert!(fs::read(copy.join("log")).expect("there") == before, "refusing changes nothing");
        let salvaged = logged().salvage().open(&copy).expect("opens");
        assert!(salvaged.backend().replayed().cut);
        assert_eq!(count(&salvaged), 100, "{name}: later ones are applied");
        salvaged.close().expect("closes");
        drop(logged().open(&copy).expect("is a store again"));
    }
    // The last write may be torn: nobody was told of it for sure.
    let copy = copy_of(&path, "last");
    spoil(&copy, in_use - 512);
    let recovered = logged().open(&copy).expect("opens");
    assert!(!recovered.backend().replayed().cut);
    assert_eq!(count(&recovered), 99);
}

#[test]
fn a_damaged_object_is_refused_and_takes_nothing_else_along() {
    let (_keep, path) = place();
    let store = logged().create(&path).expect("new");
    let make = || {
        store.transact(|tx| {
            let object = tx.create::<Count>()?;
            tx.set(count_of(object.base()), 5)?;
            Ok::<_, Error>(tx.space().id_of(object.area()))
        })
    };
    let (spoiled, sound) = (make().expect("room"), make().expect("room"));
    store.close().expect("closes");
    let file = path.join("objects").join(spoiled.to_string());
    let file = fs::OpenOptions::new().write(true).open(file).expect("there");
    file.write_all_at(&[0xa5; 64], 4096).expect("written");
    let store = logged().open(&path).expect("the store is sound");
    let guard = store.enter();
    let refused = guard.open::<Count>(spoiled, Access::Write).err().map(Error::from);
    assert_eq!(refused, Some(Error::Damaged));
    let object = guard.open::<Count>(sound, Access::Write).expect("sound");
    assert_eq!(guard.get(count_of(object.base())), 5);
}

#[test]
fn what_a_copy_may_leave_out_is_made_anew_and_the_rest_is_missed() {
    let (_keep, path) = place();
    let store = logged().create(&path).expect("new");
    count_to(&store, 7);
    let torn = copy_of(&path, "torn");
    store.close().expect("closes");
    let without = |from: &Path, part: &str| {
        let copy = copy_of(from, &format!("without {part}"));
        let gone = copy.join(part);
        if gone.is_dir() { fs::remove_dir_all(gone) } else { fs::remove_file(gone) }.expect("there");
        copy
    };
    for part in ["lock", "new"] {
        let copy = without(&path, part);
        let store = logged().open(&copy).unwrap_or_else(|error| panic!("{part}: {error}"));
        assert_eq!(count(&store), 7);
        count_to(&store, 9);
    }
    for part in ["log", "objects"] {
        assert!(damage(&logged(), &without(&path, part)).contains(part));
    }
    let salvaged = logged().salvage().open(path.with_file_name("without log")).expect("opens");
    assert_eq!((count(&salvaged), salvaged.backend().replayed().cut), (7, true));
    fs::remove_dir_all(path.with_file_name("without new")).expect("there");
    assert!(damage(&logged(), &without(&torn, "new")).contains("new"));
    assert_eq!(logged().open(&torn).map(|store| count(&store)).map_err(|_| Error::Damaged), Ok(7));
}
