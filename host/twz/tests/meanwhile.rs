//! Commands beside others that change the same names, and beside programs at work.
#![forbid(unsafe_code)]

mod common;

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::Bed;
use twizzler::collections::{BytesMap, MapRoot};
use twizzler::{NameError, Names, Options, Store, Stored};

#[derive(Stored)]
#[stored(name = "test.book", version = 1)]
#[repr(C)]
struct Book {
    pages: MapRoot,
}

/// A file that `put` has begun to read is a pipe here: what happens next, happens while it copies.
fn put_slowly(bed: &Bed, meanwhile: impl FnOnce()) -> std::process::Output {
    let made = Command::new("mkfifo").arg(bed.path("fifo")).status().expect("mkfifo runs");
    assert!(made.success());
    let mut put = bed.command(&["put", "s", "fifo", "name"]);
    let put = put.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("twz starts");
    let mut fifo = File::options().write(true).open(bed.path("fifo")).expect("opens");
    // More than a pipe holds: so it is being read.
    fifo.write_all(&vec![7; 1 << 20]).expect("is read");
    meanwhile();
    drop(fifo);
    put.wait_with_output().expect("ends")
}

fn store_with_name(content: &str) -> Bed {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.write("f", content);
    bed.ok(&["put", "s", "f", "name"]);
    bed
}

#[test]
fn put_leaves_what_got_another_name_meanwhile() {
    let bed = store_with_name("old");
    let put = put_slowly(&bed, || drop(bed.ok(&["ln", "s", "name", "keep"])));
    assert!(put.status.success(), "{put:?}");
    assert_eq!(bed.ok(&["cat", "s", "keep"]), "old");
    assert_eq!(bed.json(&["stat", "s", "name"])["objects"][0]["len_bytes"], 1 << 20);
    assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
}

#[test]
fn put_replaces_no_typed_object_that_came_meanwhile() {
    let bed = store_with_name("old");
    let put = put_slowly(&bed, || {
        bed.ok(&["rm", "s", "name"]);
        let store = Store::open(bed.path("s")).expect("opens");
        let guard = store.enter();
        let names = Names::open(&guard).expect("names");
        guard.transact(|tx| names.create::<Book>(tx, "name").map(drop)).expect("makes");
    });
    assert_eq!(put.status.code(), Some(4), "{put:?}");
    bed.fails(4, "typed", &["cat", "s", "name"]);
    assert_eq!(bed.ok(&["gc", "s"]), "something leads to every object\n");
}

/// `rm` of an object's only name, while it gets another one: whichever comes first, no name leads nowhere.
#[test]
fn rm_deletes_nothing_that_gets_another_name_meanwhile() {
    let bed = store_with_name("content");
    // So that `rm` has to look at many names before it is sure that there is no other.
    let many: Vec<String> = (0..4000).map(|number| format!("many/{number}")).collect();
    bed.ok(&[&["mkdir", "-p", "s"][..], &many.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let mut linked = 0;
    for round in 0..20 {
        bed.ok(&["put", "s", "f", "name"]);
        let mut rm = bed.command(&["rm", "s", "name"]).spawn().expect("twz starts");
        std::thread::sleep(std::time::Duration::from_millis(round % 10));
        let link = bed.run(&["ln", "s", "name", "keep"]);
        assert!(rm.wait().expect("ends").success(), "round {round}");
        assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"), "round {round}");
        if link.status == 0 {
            assert_eq!(bed.ok(&["cat", "s", "keep"]), "content", "round {round}");
            bed.ok(&["rm", "s", "keep"]);
            linked += 1;
        } else {
            link.failed(3, "no such");
        }
    }
    println!("{linked} of 20 came in time");
}

/// A program makes, names and deletes objects, and takes and gives back memory in one that stays: no moment of that is damage.
#[test]
fn check_of_a_store_in_use_finds_no_damage() {
    let bed = Bed::new();
    // Commits that wait for no disk: more of them.
    bed.ok(&["create", "s", "--survives", "process-kill"]);
    let store = Options::new().any_durability().open(bed.path("s")).expect("opens");
    {
        let guard = store.enter();
        let names = Names::open(&guard).expect("names");
        guard.transact(|tx| names.create::<Book>(tx, "book").map(drop)).expect("makes");
    }
    let stop = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            let guard = store.enter();
            let names = Names::open(&guard).expect("names");
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (new, old) = (format!("note-{round}"), format!("note-{}", round.wrapping_sub(8)));
                let changed = guard.transact(|tx| {
                    names.create::<Book>(tx, &new)?;
                    match names.delete(tx, &old) {
                        Ok(_) | Err(NameError::NoSuchName) => Ok(()),
                        Err(error) => Err(error),
                    }
                });
                changed.expect("others only make it wait");
            }
        });
        scope.spawn(|| {
            let guard = store.enter();
            let names = Names::open(&guard).expect("names");
            let book = names.object("book").expect("named");
            let book = guard.open::<Book>(book, twizzler::Access::Write).expect("opens").base();
            let pages = BytesMap::new(book.at(Book::pages));
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let key = (round.wrapping_mul(0x9e37_79b9) % 200).to_be_bytes();
                let changed = guard.transact(|tx| {
                    if !pages.remove(tx, &key)? {
                        pages.insert(tx, &key, &vec![7; 100 + (round % 4000) as usize])?;
                    }
                    Ok::<_, twizzler::Error>(())
                });
                changed.expect("others only make it wait");
            }
        });
        let ended: Vec<_> = (0..40).map(|_| bed.run(&["check", "s"])).collect();
        stop.store(true, Ordering::Relaxed);
        ended
    });
    store.close().expect("closes");
    let damaged: Vec<_> = ended.iter().filter(|run| run.status != 0).collect();
    assert!(damaged.is_empty(), "{} of 40: {:?}", damaged.len(), damaged.first());
}
