//! The command as people and scripts use it.

use twizzler_abi::Error;
use twizzler_image::MemoryBackend;
use twizzler_index::{Streams, run};
use twizzler_names::{NameError, Names};
use twizzler_object::{Space, record};

record! {
    struct Other: "test.other", 1 {
        number: u64,
    }
}

/// Runs `index` as a program of its own: status, output, messages.
fn index(backend: &MemoryBackend, args: &[&str]) -> (u8, String, String) {
    let space = Space::attach(backend).expect("attached");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut streams = Streams {
        out: &mut |bytes| out.extend_from_slice(bytes),
        err: &mut |bytes| err.extend_from_slice(bytes),
    };
    let status = run(&space, args, &mut streams);
    (status, String::from_utf8(out).expect("UTF-8"), String::from_utf8(err).expect("UTF-8"))
}

fn put(backend: &MemoryBackend, name: &str, content: &[u8]) {
    let space = Space::attach(backend).expect("attached");
    let names = Names::open(&space).expect("names");
    let made = space.transact(|tx| {
        let file = names.create_any(tx, name)?;
        tx.write_at(file, 0, content)?;
        tx.set_len_bytes(file, content.len() as u64)?;
        Ok::<_, NameError>(())
    });
    made.expect("made");
}

fn done(backend: &MemoryBackend, args: &[&str]) -> String {
    let (status, out, err) = index(backend, args);
    assert_eq!(status, 0, "{args:?}: {err}");
    out
}

fn refused(backend: &MemoryBackend, args: &[&str], status: u8) -> String {
    let (got, out, err) = index(backend, args);
    assert_eq!((got, out.as_str()), (status, ""), "{args:?}: {err}");
    err
}

#[test]
fn a_session() {
    let backend = MemoryBackend::new();
    put(&backend, "b.txt", "The cat.\nA dog and the cat,\nthe END\n".as_bytes());
    put(&backend, "a.txt", "Cat? Été 42".as_bytes());
    assert_eq!(done(&backend, &["search", "cat"]), "");
    assert_eq!(done(&backend, &["top"]), "");
    done(&backend, &["add", "b.txt", "/a.txt"]);
    assert_eq!(done(&backend, &["search", "cat"]), "1\ta.txt\n2\tb.txt\n");
    assert_eq!(done(&backend, &["search", "--lines", "THE"]), "3\tb.txt\t1,2,3\n");
    assert_eq!(done(&backend, &["search", "the", "dog"]), "3\tb.txt\n");
    assert_eq!(done(&backend, &["search", "dog", "42"]), "");
    assert_eq!(done(&backend, &["search", "éTÉ"]), "1\ta.txt\n");
    assert_eq!(done(&backend, &["top", "3"]), "3\tcat\n3\tthe\n1\t42\n");
    assert!(
        done(&backend, &["stat"]).starts_with("documents\t2\nwords\t8\noccurrences\t12\ntext_bytes\t49\n")
    );
    done(&backend, &["rm", "a.txt"]);
    assert_eq!(done(&backend, &["search", "cat"]), "2\tb.txt\n");
}

#[test]
fn refusals_say_what_and_why() {
    let backend = MemoryBackend::new();
    put(&backend, "good", b"word");
    put(&backend, "empty", b"");
    put(&backend, "binary", b"word \xfe\xff");
    let space = Space::attach(&backend).expect("attached");
    let names = Names::open(&space).expect("names");
    space
        .transact(|tx| {
            names.make_directory(tx, "dir")?;
            names.create::<Other>(tx, "other").map(drop)
        })
        .expect("made");
    drop(space);
    let nothing = "; nothing was added\n";
    let cases = [
        ("nothing", "no such name"),
        ("binary", "not UTF-8 text: byte 5"),
        ("dir", "not a text"),
        ("other", "not a text"),
        ("a//b", "not a name"),
    ];
    for (name, what) in cases {
        assert_eq!(refused(&backend, &["add", "good", name], 1), format!("index: {name}: {what}{nothing}"));
    }
    assert_eq!(refused(&backend, &["rm", "good"], 1), "index: good: not in the index\n");
    assert_eq!(refused(&backend, &["search", "a-b"], 1), "index: a-b: not a word of letters and digits\n");
    assert_eq!(refused(&backend, &["top", "many"], 1), "index: many: not a number\n");
    for args in
        [&[][..], &["add"], &["rm"], &["rm", "a", "b"], &["search"], &["search", "--lines"], &["nonsense"]]
    {
        assert!(refused(&backend, args, 2).starts_with("usage: "), "{args:?}");
    }
    done(&backend, &["add", "empty"]);
    assert!(done(&backend, &["stat"]).starts_with("documents\t1\nwords\t0\n"));
}

#[test]
fn an_object_of_another_type_is_no_index() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let names = Names::open(&space).expect("names");
    space.transact(|tx| names.create::<Other>(tx, "index").map(drop)).expect("made");
    drop(space);
    let message = refused(&backend, &["stat"], 1);
    assert!(message.contains("test.other") && message.contains("twz.index.root"), "{message}");
}

#[test]
fn a_full_memory_is_an_error_and_nothing_is_lost() {
    let backend = MemoryBackend::new();
    put(&backend, "small", b"small words");
    put(&backend, "large", "many different words 1 2 3 4 5 6 7 8 9\n".repeat(20_000).as_bytes());
    done(&backend, &["add", "small"]);
    backend.set_room(20);
    let message = refused(&backend, &["add", "large"], 1);
    assert_eq!(message, format!("index: {}\n", Error::OutOfNvm));
    backend.set_room(u64::MAX);
    assert_eq!(done(&backend, &["search", "words"]), "1\tsmall\n");
    done(&backend, &["add", "large"]);
    assert_eq!(done(&backend, &["search", "words"]), "20000\tlarge\n1\tsmall\n");
}
