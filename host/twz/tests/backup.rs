//! Copies of stores, of one that is in use too.
#![forbid(unsafe_code)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{Bed, KINDS};
use twizzler::{Access, NameError, Names, Reader, Store, Stored};

#[derive(Stored)]
#[stored(name = "test.count", version = 1)]
#[repr(C)]
struct Count {
    value: u64,
}

#[test]
fn copy_is_a_store_of_its_own() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        bed.write("f", "content");
        bed.ok(&["put", "s", "f", "d/f"]);
        bed.ok(&["backup", "s", "copy"]);
        bed.ok(&["rm", "-r", "s", "d"]);
        assert_eq!(bed.ok(&["cat", "copy", "d/f"]), "content");
        assert_eq!(bed.ok(&["check", "copy"]).lines().last(), Some("clean"), "{kind}");
        bed.ok(&["rm", "-r", "copy", "d"]);
    }
}

#[test]
fn failed_backups_leave_nothing() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.fails(3, "no such file", &["backup", "s", "no/such/folder"]);
    bed.fails(3, "there is no store", &["backup", "t", "copy"]);
    let left: Vec<_> = std::fs::read_dir(bed.path("")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// One program adds one to two counters in each transaction, and now and then makes and names a third object, while others take
/// backups and export: in each, both counters are equal, and names lead somewhere.
#[test]
fn copies_of_a_store_in_use_are_the_store_at_one_moment() {
    let bed = Bed::new();
    bed.store("directory", "s");
    let store = Store::open(bed.path("s")).expect("opens");
    {
        let guard = store.enter();
        let names = Names::open(&guard).expect("names");
        let make =
            |name: &str| guard.transact(|tx| names.create::<Count>(tx, name).map(drop)).expect("makes");
        make("one");
        make("two");
    }
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let guard = store.enter();
            let names = Names::open(&guard).expect("names");
            let open = |name: &str| {
                guard.open::<Count>(names.object(name).expect("named"), Access::Write).expect("opens").base()
            };
            let both = [open("one"), open("two")];
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                let changed = guard.transact(|tx| {
                    for count in both {
                        tx.set(count.at(Count::value), tx.get(count.at(Count::value)) + 1)?;
                    }
                    if round % 8 == 0 {
                        names.create::<Count>(tx, &format!("more-{round}"))?;
                    }
                    Ok::<_, NameError>(())
                });
                changed.expect("others only make it wait");
                round += 1;
                done.store(round, Ordering::Relaxed);
            }
        });
        for copy in ["copy1", "copy2", "copy3"] {
            let before = done.load(Ordering::Relaxed);
            while done.load(Ordering::Relaxed) < before + 5 {
                thread::yield_now();
            }
            bed.ok(&["backup", "s", copy]);
        }
        bed.ok(&["export", "s", "archive"]);
        stop.store(true, Ordering::Relaxed);
    });
    store.close().expect("closes");
    bed.store("directory", "imported");
    bed.ok(&["import", "imported", "archive"]);
    let mut last = 0;
    for copy in ["copy1", "copy2", "copy3", "imported"] {
        assert_eq!(bed.ok(&["check", copy]).lines().last(), Some("clean"), "{copy}");
        let value = |name: &str| bed.json(&["show", copy, name, "--bytes", "8"])["bytes"].clone();
        assert_eq!(value("one"), value("two"), "{copy} is torn");
        let hex = value("one");
        let bytes = u64::from_str_radix(hex.as_str().expect("hexadecimal"), 16).expect("hexadecimal");
        assert!(bytes.swap_bytes() > last, "{copy} is no later than the one before");
        last = bytes.swap_bytes();
    }
}
