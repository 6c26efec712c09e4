//! The command as people and scripts use it.

use twizzler_abi::Error;
use twizzler_image::MemoryBackend;
use twizzler_kv::{Streams, run};
use twizzler_names::{NameError, Names};
use twizzler_object::Space;

/// Runs `kv` as a program of its own: status, output, messages.
fn kv(backend: &MemoryBackend, args: &[&str]) -> (u8, String, String) {
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
    let (status, out, err) = kv(backend, args);
    assert_eq!(status, 0, "{args:?}: {err}");
    out
}

fn refused(backend: &MemoryBackend, args: &[&str], status: u8) -> String {
    let (got, out, err) = kv(backend, args);
    assert_eq!((got, out.as_str()), (status, ""), "{args:?}: {err}");
    err
}

#[test]
fn a_session() {
    let backend = MemoryBackend::new();
    done(&backend, &["put", "store", "b", "2"]);
    done(&backend, &["put", "store", "a", "1"]);
    assert_eq!(done(&backend, &["get", "store", "a"]), "1\n");
    put(&backend, "file", b"c\t3\nd\t4\na\tone");
    done(&backend, &["load", "store", "file"]);
    assert_eq!(done(&backend, &["scan", "store"]), "a\tone\nb\t2\nc\t3\nd\t4\n");
    assert_eq!(done(&backend, &["scan", "store", "b"]), "b\t2\nc\t3\nd\t4\n");
    assert_eq!(done(&backend, &["scan", "store", "b", "d"]), "b\t2\nc\t3\n");
    done(&backend, &["del", "store", "b"]);
    assert_eq!(done(&backend, &["scan", "store"]), "a\tone\nc\t3\nd\t4\n");
    assert!(done(&backend, &["stat", "store"]).starts_with("entries\t3\nbytes\t8\nlevels\t1\n"));
}

#[test]
fn refusals_say_what_and_why() {
    let backend = MemoryBackend::new();
    put(&backend, "file", b"key\tvalue\nno tab\n");
    assert_eq!(refused(&backend, &["get", "store", "a"], 1), "kv: store: no such name\n");
    done(&backend, &["put", "store", "a", "1"]);
    assert_eq!(refused(&backend, &["get", "store", "b"], 1), "kv: b: no such key\n");
    assert_eq!(refused(&backend, &["del", "store", "b"], 1), "kv: b: no such key\n");
    assert_eq!(refused(&backend, &["load", "store", "nothing"], 1), "kv: nothing: no such name\n");
    assert_eq!(
        refused(&backend, &["load", "store", "store"], 1),
        "kv: store: not a file but an object of a type\n"
    );
    assert_eq!(
        refused(&backend, &["load", "store", "file"], 1),
        "kv: file: line 2: no tab; nothing was loaded\n"
    );
    assert!(refused(&backend, &["put", "file", "a", "b"], 1).contains("twizzler.kv"));
    assert_eq!(done(&backend, &["scan", "store"]), "a\t1\n");
    for args in [&[][..], &["put", "store", "a"], &["get", "store"], &["scan"], &["nonsense"]] {
        assert!(refused(&backend, args, 2).starts_with("usage: "), "{args:?}");
    }
}

#[test]
fn a_full_memory_is_an_error_and_nothing_is_lost() {
    let backend = MemoryBackend::new();
    let lines: String = (0..30_000).map(|n| format!("key{n}\tvalue{n}\n")).collect();
    put(&backend, "file", lines.as_bytes());
    done(&backend, &["put", "store", "a", "1"]);
    backend.set_room(50);
    assert_eq!(refused(&backend, &["load", "store", "file"], 1), format!("kv: store: {}\n", Error::OutOfNvm));
    backend.set_room(u64::MAX);
    assert_eq!(done(&backend, &["scan", "store"]), "a\t1\n");
    done(&backend, &["load", "store", "file"]);
    assert!(done(&backend, &["stat", "store"]).starts_with("entries\t30001\n"));
    assert_eq!(done(&backend, &["get", "store", "key29999"]), "value29999\n");
}
