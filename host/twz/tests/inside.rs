//! What `show` and `check` see inside of objects: values by their types, tables of pointers that go on in a companion, heaps.
#![forbid(unsafe_code)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::{Bed, KINDS};
use twizzler::collections::{
    BytesMap, HashMap, HashMapRoot, MapRoot, OrderedMap, OrderedMapRoot, Text, TextRoot, Vector, VectorRoot,
};
use twizzler::{Access, Durability, Error, InvBytes, InvPtr, NameError, Names, Options, Stored};

const TARGETS: usize = 150;

#[derive(Stored)]
#[stored(name = "test.fan", version = 1)]
#[repr(C)]
struct Fan {
    targets: [InvPtr<u64>; TARGETS],
}

#[derive(Stored)]
#[stored(name = "test.letter", version = 1)]
#[repr(C)]
struct Letter {
    before: InvPtr<Letter>,
    number: u64,
    text: InvBytes,
}

#[derive(Stored)]
#[stored(name = "test.collections", version = 1)]
#[repr(C)]
struct Collections {
    numbers: VectorRoot<u64>,
    none: VectorRoot<u64>,
    text: TextRoot,
    ages: HashMapRoot<u32, [u16; 3]>,
    words: HashMapRoot<[u8], [u8]>,
    squares: OrderedMapRoot<u64, u128>,
    files: MapRoot,
    letters: VectorRoot<InvPtr<Letter>>,
}

#[test]
fn collections_are_shown_entry_by_entry() {
    let bed = Bed::new();
    let store = Options::new().durability(Durability::ProcessKill).create(bed.path("s")).expect("created");
    {
        let guard = store.enter();
        let names = Names::open(&guard).expect("names");
        let made = guard.transact(|tx| {
            let root = names.create::<Collections>(tx, "c")?.base();
            let numbers = Vector::new(root.at(Collections::numbers));
            (0..70).try_for_each(|n| numbers.push(tx, 10 * n))?;
            Text::new(root.at(Collections::text)).push_str(tx, "some text")?;
            HashMap::new(root.at(Collections::ages)).insert(tx, 7, [1, 2, 3])?;
            HashMap::new(root.at(Collections::words)).insert(tx, b"ada", b"love")?;
            let squares = OrderedMap::new(root.at(Collections::squares));
            (0..5000u64).try_for_each(|n| squares.insert(tx, n, u128::from(n * n)).map(drop))?;
            let files = BytesMap::new(root.at(Collections::files));
            files.insert(tx, b"long", &[b'x'; 4000])?;
            files.insert(tx, b"short", b"value")?;
            let letter = tx.alloc::<Letter>(root.object())?;
            tx.set(letter.at(Letter::number), 77)?;
            let place = Vector::new(root.at(Collections::letters)).push_zeroed(tx)?;
            tx.link(place, Some(letter))?;
            Ok::<_, NameError>(())
        });
        made.expect("made");
    }
    store.close().expect("closes");
    let shown = bed.ok(&["show", "s", "c"]);
    for line in [
        "    none: []",
        "        bytes: \"some text\"",
        "        7 => [1, 2, 3]",
        "        \"ada\" => \"love\"",
        "        63 => 3969",
        "    } and 4936 more",
        "        \"short\" => \"value\"",
        "    number: 77",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line:?} is not in\n{shown}");
    }
    assert!(shown.contains("    numbers: [0, 10, 20,") && shown.contains("630] and 6 more"), "{shown}");
    let values = bed.json(&["show", "s", "c"])["values"]["places"][0]["value"].clone();
    assert_eq!(values["squares"]["entries"][3], serde_json::json!([3, 9]));
    assert_eq!(values["squares"]["more"], 4936);
    assert_eq!(values["numbers"]["items"][5], 50);
}

fn make(bed: &Bed, store: &str) {
    let store = Options::new().durability(Durability::ProcessKill).open(bed.path(store)).expect("opens");
    let guard = store.enter();
    let names = Names::open(&guard).expect("names");
    guard.transact(|tx| names.create::<Fan>(tx, "fan").map(drop)).expect("made");
    let fan = guard.open::<Fan>(names.object("fan").expect("named"), Access::Write).expect("opens").base();
    // A transaction makes a bounded number of objects.
    for index in 0..TARGETS {
        let made = guard.transact(|tx| {
            let target = tx.create::<u64>()?.base();
            tx.set(target, index as u64)?;
            tx.link(fan.at(Fan::targets).index(index).ok_or(Error::OutOfRange)?, Some(target))
        });
        made.expect("made");
    }
    let made = guard.transact(|tx| {
        let first = names.create::<Letter>(tx, "letters")?.base();
        let second = tx.alloc::<Letter>(first.object())?;
        for (number, letter) in [(1, first), (2, second)] {
            tx.set(letter.at(Letter::number), number)?;
            let text = tx.alloc_bytes(first.object(), format!("text {number}").as_bytes())?;
            tx.link_span(letter.at(Letter::text), text)?;
        }
        tx.link(first.at(Letter::before), Some(second))?;
        Ok::<_, NameError>(())
    });
    made.expect("made");
    drop(guard);
    store.close().expect("closes");
}

#[test]
fn values_are_shown_by_their_type() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.ok(&["create", "from", "--survives", "process-kill"]);
        make(&bed, "from");
        bed.ok(&["export", "from", "a"]);
        bed.store(kind, "s");
        bed.ok(&["import", "s", "a"]);
        let shown = bed.ok(&["show", "s", "letters"]);
        for part in
            ["0x3000 test.letter {", "number: 1", "number: 2", "before: null", "\"text 1\"", "\"text 2\""]
        {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        let shown = bed.json(&["show", "s", "letters"]);
        let types = shown["types"].as_array().expect("a list");
        assert_eq!(types.len(), 1, "the base is one, and there is one in the heap");
        assert_eq!((types[0]["name"].as_str(), types[0]["version"].as_u64()), (Some("test.letter"), Some(1)));
        let values = shown["values"].clone();
        let base = &values["places"][0];
        assert_eq!((base["type"].as_str(), base["value"]["number"].as_u64()), (Some("test.letter"), Some(1)));
        let next = base["value"]["before"]["offset"].as_u64().expect("a pointer within the object");
        let places = values["places"].as_array().expect("a list");
        let second = places.iter().find(|place| place["offset"] == next).expect("what the pointer leads to");
        assert_eq!(second["value"]["number"], 2);
        let raw = bed.ok(&["show", "s", "letters", "--raw", "--bytes", "16"]);
        assert!(!raw.contains("number:") && raw.contains("01 00 00 00"), "{raw}");
        let one = bed.ok(&["show", "s", "letters", "--places", "1"]);
        assert!(one.contains("and more") && !one.contains("number: 2"), "{one}");
        if kind == "directory" {
            // As a description of another version of the library, which doesn't prove itself.
            let described = twizzler::types::type_object(Letter::FINGERPRINT).to_string();
            let file =
                File::options().write(true).open(bed.path("s/objects").join(described)).expect("there");
            file.write_all_at(&[0xff], 0x3000 + 40).expect("write");
            bed.fails(5, "version of Twizzler", &["show", "s", "letters"]);
            bed.ok(&["show", "s", "letters", "--raw"]);
        }
    }
}

#[test]
fn tables_of_pointers_go_on_in_companions() {
    let bed = Bed::new();
    bed.ok(&["create", "from", "--survives", "process-kill"]);
    make(&bed, "from");
    bed.ok(&["export", "from", "a", "fan"]);
    for kind in KINDS {
        bed.store(kind, kind);
        bed.ok(&["import", kind, "a"]);
        let pointers = bed.json(&["show", kind, "fan"])["pointers"].clone();
        assert_eq!(pointers.as_array().map(Vec::len), Some(TARGETS), "{kind}");
        assert_eq!(bed.ok(&["check", kind]).lines().last(), Some("clean"), "{kind}");
        assert_eq!(bed.ok(&["gc", kind]), "something leads to every object\n");
    }
    let pointers = bed.json(&["show", "directory", "fan"])["pointers"].clone();
    let (first, last) = (&pointers[0], &pointers[TARGETS - 1]);
    for gone in [first, last] {
        let id = gone["target"].as_str().expect("an ID");
        std::fs::remove_file(bed.path("directory/objects").join(id)).expect("it is there");
        let run = bed.run(&["check", "directory"]);
        let what = format!("FOT entry {} leads to {id}, which does not exist", gone["index"]);
        assert!(run.status == 0 && run.stdout.contains(&what), "{run:?}");
    }
}

#[test]
fn heaps_are_checked() {
    let bed = Bed::new();
    bed.ok(&["create", "s", "--survives", "process-kill"]);
    make(&bed, "s");
    assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
    let about = bed.json(&["show", "s", "letters"]);
    let heap = about["heap_offset"].as_u64().expect("a heap");
    let path = bed.path("s/objects").join(about["id"].as_str().expect("an ID"));
    let file = File::options().read(true).write(true).open(path).expect("ours");
    let mut found = 0;
    for at in (heap..heap + 96).step_by(8) {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, at).expect("read");
        file.write_all_at(&[0xff; 8], at).expect("write");
        let run = bed.run(&["check", "s"]);
        assert!(run.status <= 1 && run.stderr.is_empty(), "at {at:#x}: {run:?}");
        found += u32::from(run.status == 1 && run.stdout.contains("its heap"));
        file.write_all_at(&word, at).expect("write");
    }
    assert!(found >= 4, "only {found} of 12 spoilt words were found");
    assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
}
