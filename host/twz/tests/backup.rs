//! Copies of stores, of one that is in use too.
#![forbid(unsafe_code)]

mod common;

use common::{Bed, KINDS};

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
