//! The command as people and scripts use it.

use twizzler_abi::{Error, ObjId};
use twizzler_command::advised;
use twizzler_command::harness::Harness;
use twizzler_image::MemoryBackend;
use twizzler_index::run;
use twizzler_names::{NameError, Names};
use twizzler_object::{Access, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.other", version = 1)]
#[repr(C)]
struct Other {
    number: u64,
}

fn index(backend: &MemoryBackend) -> Harness<'_, MemoryBackend> {
    Harness::new(backend, run)
}

#[test]
fn a_session() {
    let backend = MemoryBackend::new();
    let index = index(&backend);
    index.put("b.txt", "The cat.\nA dog and the cat,\nthe END\n".as_bytes());
    index.put("a.txt", "Cat? Été 42".as_bytes());
    assert_eq!(index.done(&["search", "cat"]), "");
    assert_eq!(index.done(&["top"]), "");
    index.done(&["add", "b.txt", "/a.txt"]);
    assert_eq!(index.done(&["search", "cat"]), "1\ta.txt\n2\tb.txt\n");
    assert_eq!(index.done(&["search", "--lines", "THE"]), "3\tb.txt\t1,2,3\n");
    assert_eq!(index.done(&["search", "the", "dog"]), "3\tb.txt\n");
    assert_eq!(index.done(&["search", "dog", "42"]), "");
    assert_eq!(index.done(&["search", "éTÉ"]), "1\ta.txt\n");
    assert_eq!(index.done(&["top", "3"]), "3\tcat\n3\tthe\n1\t42\n");
    assert!(index.done(&["stat"]).starts_with("documents\t2\nwords\t8\noccurrences\t12\ntext_bytes\t49\n"));
    index.done(&["rm", "a.txt"]);
    assert_eq!(index.done(&["search", "cat"]), "2\tb.txt\n");
}

#[test]
fn refusals_say_what_and_why() {
    let backend = MemoryBackend::new();
    let index = index(&backend);
    index.put("good", b"word");
    index.put("empty", b"");
    index.put("binary", b"word \xfe\xff");
    let space = index.space();
    let guard = space.enter();
    let names = Names::open(&guard).expect("names");
    guard
        .transact(|tx| {
            names.make_directory(tx, "dir")?;
            names.create::<Other>(tx, "other").map(drop)
        })
        .expect("made");
    drop(guard);
    drop(space);
    let nothing = "; nothing was added\n";
    let cases = [
        ("nothing", "no such name; `ls` and `tree` list the names"),
        ("binary", "not UTF-8 text: byte 5; convert it first"),
        ("dir", "is a directory; name what is in it: `ls` lists that"),
        ("other", "an object of a type, not a text; `show` tells the type"),
        ("a//b", &advised(&NameError::BadName)),
    ];
    for (name, what) in cases {
        assert_eq!(index.refused(&["add", "good", name], 1), format!("index: {name}: {what}{nothing}"));
    }
    assert_eq!(
        index.refused(&["rm", "good"], 1),
        "index: good: not in the index; `index search` tells what is\n"
    );
    assert_eq!(
        index.refused(&["search", "a-b"], 1),
        "index: a-b: not a word of letters and digits; give each word alone\n"
    );
    assert_eq!(
        index.refused(&["top", "many"], 1),
        "index: many: not a number; `index top 20` prints 20 words\n"
    );
    for args in
        [&[][..], &["add"], &["rm"], &["rm", "a", "b"], &["search"], &["search", "--lines"], &["nonsense"]]
    {
        assert!(index.refused(args, 2).starts_with("usage: "), "{args:?}");
    }
    index.done(&["add", "empty"]);
    assert!(index.done(&["stat"]).starts_with("documents\t1\nwords\t0\n"));
}

#[test]
fn an_object_of_another_type_is_no_index() {
    let backend = MemoryBackend::new();
    let index = index(&backend);
    let space = index.space();
    let guard = space.enter();
    let names = Names::open(&guard).expect("names");
    guard.transact(|tx| names.create::<Other>(tx, "index").map(drop)).expect("made");
    drop(guard);
    drop(space);
    let message = index.refused(&["stat"], 1);
    assert!(message.contains("test.other") && message.contains("twz.index.root"), "{message}");
}

#[test]
fn a_full_memory_is_an_error_and_nothing_is_lost() {
    let backend = MemoryBackend::new();
    let index = index(&backend);
    index.put("small", b"small words");
    index.put("large", "many different words 1 2 3 4 5 6 7 8 9\n".repeat(20_000).as_bytes());
    index.done(&["add", "small"]);
    backend.set_room(20);
    let message = index.refused(&["add", "large"], 1);
    assert_eq!(message, format!("index: {}\n", advised(&Error::OutOfNvm)));
    backend.set_room(u64::MAX);
    assert_eq!(index.done(&["search", "words"]), "1\tsmall\n");
    index.done(&["add", "large"]);
    assert_eq!(index.done(&["search", "words"]), "20000\tlarge\n1\tsmall\n");
}

#[test]
fn drop_leaves_nothing_behind() {
    let backend = MemoryBackend::new();
    let index = index(&backend);
    for name in ["one", "two", "three"] {
        index.put(name, format!("{name} words of a text").as_bytes());
    }
    // Lanes come when they are needed, and stay.
    let ids = || {
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let is_lane = |&id: &ObjId| {
            let area = guard.open_any(id, Access::Read).expect("there");
            // So do descriptions of types.
            ["twizzler.lane", "twizzler.type"].contains(&guard.type_name(area).to_string().as_str())
        };
        backend.ids().into_iter().filter(|id| !is_lane(id)).collect::<Vec<_>>()
    };
    let before = ids();
    index.done(&["add", "one"]);
    index.done(&["add", "two", "three"]);
    assert!(ids().len() >= before.len() + 3, "a root, a catalog and a segment at least");
    assert!(index.refused(&["drop", "one"], 1).contains("twz.index.root"), "texts are no index");
    let (status, _, message) = index.run(&["drop"]);
    assert_eq!(status, 0, "{message}");
    assert!(
        message.starts_with("index: /index deleted: ") && message.ends_with("the texts stay\n"),
        "{message}"
    );
    assert_eq!(ids(), before);
    assert_eq!(index.done(&["search", "words"]), "");
    assert_eq!(index.refused(&["drop"], 1), "index: /index: there is no index; `index add` makes one\n");
    index.done(&["add", "one"]);
    assert_eq!(index.done(&["search", "words"]), "1\tone\n");
}
