//! The command as people and scripts use it.

use twizzler_abi::Error;
use twizzler_command::advised;
use twizzler_command::harness::Harness;
use twizzler_image::MemoryBackend;
use twizzler_kv::run;

fn kv(backend: &MemoryBackend) -> Harness<'_, MemoryBackend> {
    Harness::new(backend, run)
}

#[test]
fn a_session() {
    let backend = MemoryBackend::new();
    let kv = kv(&backend);
    kv.done(&["put", "store", "b", "2"]);
    kv.done(&["put", "store", "a", "1"]);
    assert_eq!(kv.done(&["get", "store", "a"]), "1\n");
    kv.put("file", b"c\t3\nd\t4\na\tone");
    kv.done(&["load", "store", "file"]);
    assert_eq!(kv.done(&["scan", "store"]), "a\tone\nb\t2\nc\t3\nd\t4\n");
    assert_eq!(kv.done(&["scan", "store", "b"]), "b\t2\nc\t3\nd\t4\n");
    assert_eq!(kv.done(&["scan", "store", "b", "d"]), "b\t2\nc\t3\n");
    kv.done(&["del", "store", "b"]);
    assert_eq!(kv.done(&["scan", "store"]), "a\tone\nc\t3\nd\t4\n");
    assert!(kv.done(&["stat", "store"]).starts_with("entries\t3\nbytes\t8\nlevels\t1\n"));
}

#[test]
fn refusals_say_what_and_why() {
    let backend = MemoryBackend::new();
    let kv = kv(&backend);
    kv.put("file", b"key\tvalue\nno tab\n");
    assert_eq!(
        kv.refused(&["get", "store", "a"], 1),
        "kv: store: no such store; `kv put` and `kv load` make one, `ls` lists the names\n"
    );
    kv.done(&["put", "store", "a", "1"]);
    assert_eq!(kv.refused(&["get", "store", "b"], 1), "kv: b: no such key; `kv scan STORE` lists the keys\n");
    assert_eq!(kv.refused(&["del", "store", "b"], 1), "kv: b: no such key; `kv scan STORE` lists the keys\n");
    assert_eq!(
        kv.refused(&["load", "store", "nothing"], 1),
        "kv: nothing: no such name; `ls` and `tree` list the names\n"
    );
    assert_eq!(
        kv.refused(&["load", "store", "store"], 1),
        "kv: store: an object of a type, not a file; `show` tells the type\n"
    );
    assert_eq!(
        kv.refused(&["load", "store", "file"], 1),
        "kv: file: line 2: no tab between key and value; nothing was loaded\n"
    );
    assert!(kv.refused(&["put", "file", "a", "b"], 1).contains("twizzler.kv"));
    assert_eq!(kv.done(&["scan", "store"]), "a\t1\n");
    for args in [&[][..], &["put", "store", "a"], &["get", "store"], &["scan"], &["nonsense"]] {
        assert!(kv.refused(args, 2).starts_with("usage: "), "{args:?}");
    }
}

#[test]
fn a_full_memory_is_an_error_and_nothing_is_lost() {
    let backend = MemoryBackend::new();
    let kv = kv(&backend);
    let lines: String = (0..30_000).map(|n| format!("key{n}\tvalue{n}\n")).collect();
    kv.put("file", lines.as_bytes());
    kv.done(&["put", "store", "a", "1"]);
    backend.set_room(50);
    assert_eq!(
        kv.refused(&["load", "store", "file"], 1),
        format!("kv: store: {}\n", advised(&Error::OutOfNvm))
    );
    backend.set_room(u64::MAX);
    assert_eq!(kv.done(&["scan", "store"]), "a\t1\n");
    kv.done(&["load", "store", "file"]);
    assert!(kv.done(&["stat", "store"]).starts_with("entries\t30001\n"));
    assert_eq!(kv.done(&["get", "store", "key29999"]), "value29999\n");
}
