//! Objects that travel: pointers still hold, conflicts are refused, and an archive that is not whole changes nothing.
#![forbid(unsafe_code)]

mod common;

use std::fs;
use std::process::Stdio;

use common::{Bed, KINDS};
use twizzler::collections::{HashMapRoot, OrderedMapRoot, PointerHashMap, PointerOrderedMap};
use twizzler::{Access, Error, InvPtr, NameError, Names, Ptr, Reader, Store, Stored};

/// An entry of a list whose entries lie in objects of their own.
#[derive(Stored)]
#[stored(name = "test.entry", version = 1)]
#[repr(C)]
struct Entry {
    next: InvPtr<Entry>,
    number: u64,
}

/// Maps whose keys are the entries of a list.
#[derive(Stored)]
#[stored(name = "test.numbers-of-entries", version = 1)]
#[repr(C)]
struct Numbers {
    hashed: HashMapRoot<InvPtr<Entry>, u64>,
    ordered: OrderedMapRoot<InvPtr<Entry>, u64>,
}

/// What is done with the maps, and with each entry of the list from its end on: their places, and the entry's number.
fn each_entry(
    path: &std::path::Path,
    mut work: impl for<'g> FnMut(
        &mut twizzler::Tx<'g, twizzler::HostedBackend>,
        Ptr<'g, Numbers>,
        Ptr<'g, Entry>,
    ) -> Result<(), twizzler::Error>,
) {
    let store = Store::open(path).expect("opens");
    let guard = store.enter();
    let names = Names::open(&guard).expect("names");
    let [head, numbers] = ["lists/one", "lists/numbers"].map(|name| names.object(name).expect("named"));
    let done = guard.transact(|tx| {
        let mut next = Some(tx.open::<Entry>(head, Access::Write)?.base());
        let mut entries = Vec::new();
        while let Some(entry) = next {
            entries.push(entry);
            next = tx.follow(entry.at(Entry::next))?;
        }
        let numbers = tx.open::<Numbers>(numbers, Access::Write)?.base();
        entries.into_iter().rev().try_for_each(|entry| work(tx, numbers, entry))
    });
    done.expect("done");
}

/// Makes a list of `len` objects; only its head has a name.
fn make_list(path: &std::path::Path, name: &str, len: u64) {
    let store = Store::open(path).expect("opens");
    let guard = store.enter();
    let names = Names::open(&guard).expect("names");
    guard
        .transact(|tx| {
            let mut next = None;
            for number in (0..len).rev() {
                let entry =
                    if number == 0 { names.create::<Entry>(tx, name)? } else { tx.create::<Entry>()? };
                tx.set(entry.base().at(Entry::number), number)?;
                tx.link(entry.base().at(Entry::next), next)?;
                next = Some(entry.base());
            }
            Ok::<_, NameError>(())
        })
        .expect("makes a list");
}

/// The numbers of a list.
fn read_list(path: &std::path::Path, name: &str) -> Vec<u64> {
    let store = Store::open(path).expect("opens");
    let guard = store.enter();
    let names = Names::open(&guard).expect("names");
    let head =
        guard.open::<Entry>(names.object(name).expect("named"), twizzler::Access::Read).expect("opens");
    let mut numbers = Vec::new();
    let mut next = Some(head.base());
    while let Some(entry) = next {
        numbers.push(guard.get(entry.at(Entry::number)));
        next = guard.follow(entry.at(Entry::next)).expect("leads somewhere");
    }
    numbers
}

#[test]
fn pointers_hold_through_an_image_and_back() {
    let bed = Bed::new();
    bed.store("directory", "from");
    bed.ok(&["mkdir", "from", "lists"]);
    make_list(&bed.path("from"), "lists/one", 20);
    bed.write("f", "content");
    bed.ok(&["put", "from", "f", "lists/f"]);
    bed.ok(&["mkdir", "from", "empty"]);
    bed.ok(&["export", "from", "a"]);
    bed.store("image", "i");
    // Twenty-one, and the descriptions of their types.
    assert!(bed.ok(&["import", "i", "a"]).contains(" objects and 4 names are new"));
    assert_eq!(bed.ok(&["check", "i"]).lines().last(), Some("clean"));
    assert_eq!(bed.ok(&["gc", "i"]), "something leads to every object\n");
    assert_eq!(bed.ok(&["tree", "i"]), "empty/\nlists/\n  f\n  one\n");
    bed.ok(&["export", "i", "b", "lists"]);
    bed.store("directory", "to");
    bed.ok(&["import", "to", "b"]);
    assert_eq!(read_list(&bed.path("to"), "lists/one"), (0..20).collect::<Vec<_>>());
    assert_eq!(bed.ok(&["tree", "to"]), "lists/\n  f\n  one\n");
    assert_eq!(bed.ok(&["check", "to"]).lines().last(), Some("clean"));
    // The IDs are the same, so there is nothing to do.
    assert!(bed.ok(&["import", "from", "b"]).contains(" objects were there already"));
}

#[test]
fn keys_that_are_pointers_hold_through_an_image_and_back() {
    let bed = Bed::new();
    bed.store("directory", "from");
    bed.store("directory", "to");
    bed.ok(&["mkdir", "from", "lists"]);
    make_list(&bed.path("from"), "lists/one", 9);
    {
        let store = Store::open(bed.path("from")).expect("opens");
        let guard = store.enter();
        let names = Names::open(&guard).expect("names");
        guard.transact(|tx| names.create::<Numbers>(tx, "lists/numbers").map(drop)).expect("made");
    }
    each_entry(&bed.path("from"), |tx, numbers, entry| {
        let number = tx.get(entry.at(Entry::number));
        PointerHashMap::hashed(numbers.at(Numbers::hashed)).insert(tx, entry, number)?;
        PointerOrderedMap::ordered(numbers.at(Numbers::ordered)).insert(tx, entry, number).map(drop)
    });
    // Both are shown as what their keys are: pointers to another object.
    let shown = bed.ok(&["show", "from", "lists/numbers"]);
    let leads = |line: &&str| line.trim_start().starts_with("-> ") && line.contains(" => ");
    assert_eq!(shown.lines().filter(leads).count(), 18, "{shown}");
    bed.store("image", "i");
    bed.ok(&["export", "from", "a"]);
    bed.ok(&["import", "i", "a"]);
    bed.ok(&["export", "i", "b", "lists"]);
    bed.ok(&["import", "to", "b"]);
    let mut seen = 0;
    each_entry(&bed.path("to"), |tx, numbers, entry| {
        let number = tx.get(entry.at(Entry::number));
        let hashed = PointerHashMap::hashed(numbers.at(Numbers::hashed));
        let ordered = PointerOrderedMap::ordered(numbers.at(Numbers::ordered));
        assert_eq!((hashed.get(tx, entry)?, ordered.get(tx, entry)?), (Some(number), Some(number)));
        assert_eq!((hashed.len(tx)?, hashed.iter(tx).count()), (9, 9));
        seen += 1;
        Ok(())
    });
    assert_eq!(seen, 9);
}

#[test]
fn only_what_was_asked_for_goes_along() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        for name in ["a", "b/c", "b/d", "e"] {
            bed.write("f", name);
            bed.ok(&["put", "s", "f", name]);
        }
        bed.ok(&["export", "s", "x", "b/c", "e"]);
        bed.store(kind, "t");
        bed.ok(&["import", "t", "x", "--into", "from/s"]);
        assert_eq!(bed.ok(&["tree", "t"]), "from/\n  s/\n    b/\n      c\n    e\n");
        assert_eq!(bed.ok(&["cat", "t", "from/s/b/c"]), "b/c");
        assert_eq!(bed.json(&["stat", "t"])["kind"], kind);
    }
}

#[test]
fn what_differs_is_refused_kept_or_replaced() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store("directory", "s");
        bed.store(kind, "t");
        make_list(&bed.path("s"), "list", 3);
        bed.write("f", "mine");
        bed.ok(&["put", "s", "f"]);
        bed.ok(&["export", "s", "old"]);
        // The same object changes, and the name leads to another one.
        let store = Store::open(bed.path("s")).expect("opens");
        {
            let guard = store.enter();
            let names = Names::open(&guard).expect("names");
            let list = names.object("list").expect("named");
            let list = guard.open::<Entry>(list, twizzler::Access::Write).expect("opens");
            guard.transact(|tx| tx.set(list.base().at(Entry::number), 77)).expect("changes");
        }
        store.close().expect("closes");
        bed.write("f", "theirs");
        bed.ok(&["put", "s", "f"]);
        bed.ok(&["export", "s", "new"]);
        bed.ok(&["import", "t", "old"]);
        let before = bed.ok(&["ls", "-l", "t"]);
        let run = bed.run(&["import", "t", "new"]);
        run.failed(4, "name f leads to something else");
        run.failed(4, "differs");
        run.failed(4, "--replace");
        assert_eq!(bed.ok(&["ls", "-l", "t"]), before, "nothing was changed");
        assert!(bed.ok(&["import", "t", "new", "--keep"]).contains("2 kept"));
        assert_eq!(bed.ok(&["cat", "t", "f"]), "mine");
        assert!(bed.ok(&["import", "t", "new", "--replace"]).contains("1 objects replaced"));
        assert_eq!(bed.ok(&["cat", "t", "f"]), "theirs");
        let number = bed.json(&["show", "t", "list", "--from", "8", "--bytes", "8"])["bytes"].clone();
        assert_eq!(number, "4d00000000000000");
        assert_eq!(bed.ok(&["check", "t"]).lines().last(), Some("clean"));
        // Versions never go back, also where what is older replaces what is newer.
        let version = |bed: &Bed| bed.json(&["show", "t", "list"])["version"].as_u64().expect("a number");
        let newer = version(&bed);
        bed.ok(&["import", "t", "old", "--replace"]);
        assert!(version(&bed) >= newer);
        // The file that lost its name is left for `gc`.
        assert!(bed.run(&["gc", "t"]).stdout.contains("nothing leads to 1 objects"));
    }
}

#[test]
fn archive_that_is_not_whole_changes_nothing() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.store("directory", "t");
    make_list(&bed.path("s"), "list", 5);
    bed.ok(&["export", "s", "a"]);
    let good = bed.read("a");
    for len in [0, 10, 64, 100, good.len() / 2, good.len() - 1] {
        bed.write("cut", &good[..len]);
        let run = bed.run(&["import", "t", "cut"]);
        run.failed(5, if len < 64 { "is not an archive" } else { "cut off" });
    }
    for at in [70, 200, good.len() / 2, good.len() - 5] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bed.write("bad", &bad);
        // Where a length is what was spoiled, the archive seems to be cut off.
        let run = bed.run(&["import", "t", "bad"]);
        assert_eq!(run.status, 5, "{}", run.stderr);
        assert!(run.stderr.contains("damaged") || run.stderr.contains("cut off"), "{}", run.stderr);
    }
    let mut newer = good.clone();
    newer[8] = 7;
    bed.write("newer", &newer);
    bed.run(&["import", "t", "newer"]).failed(5, "version 7");
    assert_eq!(bed.ok(&["ls", "t"]), "");
    assert_eq!(bed.ok(&["gc", "t"]), "something leads to every object\n");
    assert!(fs::read_dir(bed.path("t/new")).expect("a folder").next().is_none());
}

#[test]
fn archives_go_through_pipes() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.store("image", "t");
    bed.write("f", "content");
    bed.ok(&["put", "s", "f"]);
    let output = bed.command(&["export", "s", "-"]).output().expect("twz runs");
    assert!(output.status.success() && output.stdout.starts_with(b"TWZARCHV"));
    assert_eq!(bed.run_with(&["import", "t", "-"], &output.stdout).status, 0);
    assert_eq!(bed.ok(&["cat", "t", "f"]), "content");
}

#[test]
fn full_image_is_left_without_what_did_not_fit() {
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.ok(&["create", "t", "--size", "8M"]);
    bed.write("f", vec![7; 20 << 20]);
    bed.write("g", "small");
    bed.ok(&["put", "s", "f"]);
    bed.ok(&["put", "s", "g"]);
    bed.ok(&["export", "s", "a"]);
    bed.fails(6, "full", &["import", "t", "a"]);
    assert_eq!(bed.ok(&["ls", "t"]), "");
    assert_eq!(bed.ok(&["gc", "t"]), "something leads to every object\n");
    bed.ok(&["export", "s", "b", "g"]);
    bed.ok(&["import", "t", "b"]);
}

#[test]
fn sparse_objects_cost_what_they_hold() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        let file = fs::File::create(bed.path("f")).expect("a file");
        file.set_len((1 << 30) - (16 << 10)).expect("sparse");
        std::os::unix::fs::FileExt::write_all_at(&file, b"far out", 900 << 20).expect("write");
        bed.ok(&["put", "s", "f"]);
        bed.ok(&["export", "s", "a"]);
        assert!(bed.path("a").metadata().expect("exists").len() < 4 << 20, "{kind}");
        bed.store(kind, "t");
        bed.ok(&["import", "t", "a"]);
        bed.ok(&["get", "t", "f", "g"]);
        let got = fs::File::open(bed.path("g")).expect("a file");
        assert_eq!(got.metadata().expect("exists").len(), (1 << 30) - (16 << 10));
        let mut far = [0; 7];
        std::os::unix::fs::FileExt::read_exact_at(&got, &mut far, 900 << 20).expect("read");
        assert_eq!(&far, b"far out");
        bed.ok(&["backup", "s", "b"]);
        assert!(bed.json(&["stat", "b"])["used_bytes"].as_u64().expect("a number") < 64 << 20, "{kind}");
    }
}

/// Makes an object reach over 512 GiB, with a list from its base to an entry far out and back to another object.
fn make_large(path: &std::path::Path) {
    let mut store = Store::open(path).expect("opens");
    let grown = {
        let guard = store.enter();
        let names = Names::open(&guard).expect("names");
        let made = guard.transact(|tx| {
            let head = names.create::<Entry>(tx, "head")?;
            let grown = tx.create::<Entry>()?;
            tx.link(head.base().at(Entry::next), Some(grown.base()))?;
            tx.set(grown.base().at(Entry::number), 1)?;
            Ok::<_, NameError>(store.id_of(grown.area()))
        });
        made.expect("makes")
    };
    store.promote(grown).expect("there is address space");
    let guard = store.enter();
    let grown = guard.open::<Entry>(grown, twizzler::Access::Write).expect("opens").base();
    guard
        .transact(|tx| {
            tx.write_at(grown.object(), FAR, &[0; 4096])?;
            let far = grown.object().place::<Entry>(FAR + 0x3000).ok_or(Error::OutOfRange)?;
            tx.set(far.at(Entry::number), 2)?;
            tx.link(grown.at(Entry::next), Some(far))
        })
        .expect("there is room");
}

/// Offset from the base of what lies far out.
const FAR: u64 = 300 << 30;

#[test]
fn large_objects_travel() {
    let bed = Bed::new();
    bed.store("directory", "s");
    make_large(&bed.path("s"));
    bed.ok(&["export", "s", "a"]);
    bed.ok(&["backup", "s", "copy"]);
    assert_eq!(read_list(&bed.path("copy"), "head"), [0, 1, 2]);
    bed.store("image", "i");
    bed.ok(&["import", "i", "a"]);
    assert_eq!(bed.ok(&["check", "i"]).lines().last(), Some("clean"));
    assert_eq!(bed.ok(&["gc", "i"]), "something leads to every object\n");
    bed.ok(&["backup", "i", "j"]);
    bed.ok(&["export", "j", "b"]);
    bed.store("directory", "t");
    bed.ok(&["import", "t", "b"]);
    assert_eq!(read_list(&bed.path("t"), "head"), [0, 1, 2]);
    assert!(bed.ok(&["import", "s", "b"]).contains("were there already"));
    // One that has not been promoted differs.
    bed.ok(&["import", "i", "a", "--replace"]);
    assert_eq!(bed.ok(&["check", "i"]).lines().last(), Some("clean"));
}

#[test]
fn files_beyond_a_gibibyte_take_a_large_object() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "s");
        let file = fs::File::create(bed.path("f")).expect("a file");
        file.set_len((1 << 30) + 5).expect("sparse");
        std::os::unix::fs::FileExt::write_all_at(&file, b"far", 1 << 30).expect("write");
        bed.ok(&["put", "s", "f"]);
        assert_eq!(bed.json(&["stat", "s", "f"])["objects"][0]["range_bytes"], 1u64 << 39, "{kind}");
        bed.ok(&["get", "s", "f", "g"]);
        let got = fs::File::open(bed.path("g")).expect("a file");
        assert_eq!(got.metadata().expect("exists").len(), (1 << 30) + 5);
        let mut far = [0; 3];
        std::os::unix::fs::FileExt::read_exact_at(&got, &mut far, 1 << 30).expect("read");
        assert_eq!(&far, b"far");
        assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
    }
}

/// `import --replace` is killed at random moments: every object is the old one or the new one, in an image all are the old ones or all the new
/// ones, and the same command again completes it.
#[test]
fn killed_replacements_lose_nothing() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store("directory", "s");
        bed.store(kind, "t");
        let lists: Vec<String> = (0..12).map(|n| format!("list{n}")).collect();
        lists.iter().for_each(|name| make_list(&bed.path("s"), name, 1));
        bed.ok(&["export", "s", "old"]);
        let store = Store::open(bed.path("s")).expect("opens");
        {
            let guard = store.enter();
            let names = Names::open(&guard).expect("names");
            for name in &lists {
                let id = names.object(name).expect("named");
                let list = guard.open::<Entry>(id, twizzler::Access::Write).expect("opens").base();
                guard.transact(|tx| tx.set(list.at(Entry::number), 77)).expect("changes");
            }
        }
        store.close().expect("closes");
        bed.ok(&["export", "s", "new"]);
        bed.ok(&["import", "t", "old"]);
        let number = |bed: &Bed, name: &str| {
            let shown = bed.json(&["show", "t", name, "--raw", "--from", "8", "--bytes", "8"]);
            u64::from_str_radix(&shown["bytes"].as_str().expect("hexadecimal")[..2], 16).expect("hexadecimal")
        };
        for round in 0..10_u64 {
            let archive = if round % 2 == 0 { "new" } else { "old" };
            let mut child = bed.command(&["import", "t", archive, "--replace"]);
            let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.expect("twz starts");
            std::thread::sleep(std::time::Duration::from_millis(3 + round * 7 % 40));
            child.kill().expect("it runs or has ended");
            child.wait().expect("it ends");
            let numbers: Vec<u64> = lists.iter().map(|name| number(&bed, name)).collect();
            assert!(numbers.iter().all(|number| [0, 77].contains(number)), "{numbers:?}");
            assert!(kind == "directory" || numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
            assert_eq!(bed.ok(&["check", "t"]).lines().last(), Some("clean"), "{kind}, round {round}");
        }
        bed.ok(&["import", "t", "new", "--replace"]);
        assert!(lists.iter().all(|name| number(&bed, name) == 77));
    }
}
