//! `check`, `repair` and `gc` on stores that something happened to.
#![forbid(unsafe_code)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use common::{Bed, KINDS};

fn id_of(bed: &Bed, store: &str, name: &str) -> String {
    bed.json(&["stat", store, name])["objects"][0]["id"].as_str().expect("an ID").to_owned()
}

fn store_with_files(kind: &str) -> Bed {
    let bed = Bed::new();
    bed.store(kind, "s");
    for name in ["a", "b", "d/c"] {
        bed.write("f", format!("content of {name}"));
        bed.ok(&["put", "s", "f", name]);
    }
    bed
}

/// Where an object's metadata page lies in an image.
fn metadata_at(image: &[u8], id: &str) -> usize {
    let number = u128::from_str_radix(id, 16).expect("an ID");
    let words = [((number >> 64) as u64).to_le_bytes(), (number as u64).to_le_bytes()].concat();
    let pages = image.chunks(4096).position(|page| page.starts_with(b"TWZOBJ") && page[32..48] == words[..]);
    pages.expect("the object is there") * 4096
}

/// Spoils an object's metadata.
fn spoil(bed: &Bed, kind: &str, id: &str) {
    let (path, at) = match kind {
        "image" => (bed.path("s"), metadata_at(&bed.read("s"), id)),
        _ => (bed.path("s/objects").join(id), 4096),
    };
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.write_all_at(&[0xff; 4], at as u64 + 60))
        .expect("write");
}

#[test]
fn damaged_objects_are_listed_and_take_nothing_else_along() {
    for kind in KINDS {
        let bed = store_with_files(kind);
        let id = id_of(&bed, "s", "b");
        spoil(&bed, kind, &id);
        let run = bed.run(&["check", "s"]);
        assert_eq!(run.status, 1, "{kind}: {run:?}");
        assert!(run.stdout.contains(&id) && run.stdout.contains("metadata"), "{kind}: {run:?}");
        bed.run(&["cat", "s", "b"]).failed(5, "damaged");
        bed.fails(5, "damaged", &["export", "s", "x"]);
        assert_eq!(bed.ok(&["cat", "s", "a", "d/c"]), "content of acontent of d/c");
        assert!(bed.ok(&["ls", "-l", "s"]).contains("damaged"));
        let run = bed.run(&["repair", "s"]);
        assert_eq!(run.status, 1, "{kind}: {run:?}");
        assert!(run.stdout.contains("remains") && run.stdout.contains("--force"), "{run:?}");
        assert!(bed.ok(&["ls", "s"]).contains('b'), "nothing is destroyed without --force");
        let forced = bed.ok(&["repair", "s", "--force"]);
        assert!(forced.contains("deleted") && forced.contains("removed"), "{kind}: {forced}");
        assert_eq!(bed.ok(&["ls", "s"]), "a\nd/\n");
        assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"), "{kind}");
    }
}

#[test]
fn damaged_objects_can_be_removed_by_force() {
    for kind in KINDS {
        let bed = store_with_files(kind);
        spoil(&bed, kind, &id_of(&bed, "s", "b"));
        assert_ne!(bed.run(&["rm", "s", "b"]).status, 0, "{kind}");
        bed.ok(&["rm", "s", "b", "--force"]);
        assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"), "{kind}");
    }
}

#[test]
fn objects_that_are_gone_leave_names_that_repair_removes() {
    let bed = store_with_files("directory");
    let id = id_of(&bed, "s", "d/c");
    fs::remove_file(bed.path("s/objects").join(&id)).expect("removes");
    let run = bed.run(&["check", "s"]);
    assert_eq!(run.status, 1);
    assert!(run.stdout.contains("name d/c") && run.stdout.contains(&id), "{run:?}");
    bed.fails(3, "no such object", &["cat", "s", "d/c"]);
    assert!(bed.ok(&["repair", "s"]).contains("name d/c led to"));
    assert_eq!(bed.ok(&["tree", "s"]), "a\nb\nd/\n");
}

#[test]
fn cut_files_of_objects_are_damage() {
    let bed = store_with_files("directory");
    let id = id_of(&bed, "s", "a");
    let file = File::options().write(true).open(bed.path("s/objects").join(&id)).expect("opens");
    file.set_len(5000).expect("cuts");
    let run = bed.run(&["check", "s"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stdout.contains(&id), "{run:?}");
    bed.fails(5, "damaged", &["cat", "s", "a"]);
}

#[test]
fn lost_names_are_made_anew_by_force_and_objects_found_again() {
    for kind in KINDS {
        let bed = store_with_files(kind);
        let (a, c) = (id_of(&bed, "s", "a"), id_of(&bed, "s", "d/c"));
        spoil(&bed, kind, &twz::paths::names_id().to_string());
        bed.fails(5, "names", &["ls", "s"]);
        assert_eq!(bed.run(&["check", "s"]).status, 1);
        bed.fails(5, "--force", &["repair", "s"]);
        let run = bed.run(&["repair", "s", "--force"]);
        assert_eq!(run.status, 0, "{kind}: {run:?}");
        let found = bed.ok(&["ls", "s", "lost+found"]);
        assert!(found.contains(&a) && found.contains(&c) && found.lines().count() == 3, "{kind}: {found}");
        assert_eq!(bed.ok(&["cat", "s", &format!("lost+found/{c}")]), "content of d/c");
        assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"), "{kind}");
    }
}

#[test]
fn what_nothing_leads_to_is_listed_and_deleted() {
    for kind in KINDS {
        let bed = store_with_files(kind);
        let (a, b) = (id_of(&bed, "s", "a"), id_of(&bed, "s", "b"));
        // A file that holds the number of an object leads to it.
        bed.write(
            "f",
            [b"see ".to_vec(), u128::from_str_radix(&b, 16).expect("an ID").to_le_bytes().to_vec()].concat(),
        );
        bed.ok(&["put", "s", "f", "holder"]);
        unname(&bed, kind, &["a", "b"]);
        let run = bed.run(&["gc", "s"]);
        assert_eq!(run.status, 1, "{kind}: {run:?}");
        assert!(run.stdout.contains(&a) && !run.stdout.contains(&b), "{kind}: {run:?}");
        assert_eq!(bed.ok(&["cat", "s", &a]), "content of a", "listing deletes nothing");
        assert!(bed.ok(&["gc", "s", "--delete"]).contains("1 objects deleted"));
        bed.fails(3, "no such object", &["cat", "s", &a]);
        assert_eq!(bed.ok(&["cat", "s", &b]), "content of b");
        bed.ok(&["rm", "s", "holder"]);
        assert!(bed.ok(&["gc", "s", "--delete"]).contains("1 objects deleted"));
        assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
    }
}

/// Takes names away from objects that go on to exist, as a program may.
fn unname(bed: &Bed, kind: &str, names: &[&str]) {
    match kind {
        "image" => {
            // Through an archive: the objects arrive without their names.
            bed.ok(&["mkdir", "s", "hidden"]);
            let backend =
                twz::open::open_image(&bed.path("s"), twz::open::For::Changing, twz::open::Lock::Take);
            let Ok(opened) = backend else { panic!("opens") };
            unbind(&opened, names);
            assert!(opened.close().is_ok());
        }
        _ => {
            let Ok(twz::open::Any::Directory(opened)) =
                twz::open::open(&bed.path("s"), twz::open::For::Changing)
            else {
                panic!("opens")
            };
            unbind(&opened, names);
            assert!(opened.close().is_ok());
        }
    }
}

fn unbind<M: twz::medium::Medium>(store: &twz::open::Opened<M>, all: &[&str]) {
    let guard = store.space.enter();
    let names = twizzler::Names::open(&guard).expect("names");
    guard.transact(|tx| all.iter().try_for_each(|name| names.unbind(tx, name).map(drop))).expect("unbinds");
}

#[test]
fn an_object_called_lost_and_found_is_not_in_the_way() {
    for kind in KINDS {
        let bed = store_with_files(kind);
        let a = id_of(&bed, "s", "a");
        bed.ok(&["put", "s", "f", "lost+found"]);
        unname(&bed, kind, &["a"]);
        assert!(bed.ok(&["repair", "s"]).contains("had no name"), "{kind}");
        assert_eq!(bed.ok(&["cat", "s", "lost+found"]), "content of d/c");
        assert_eq!(bed.ok(&["cat", "s", &format!("lost+found.1/{a}")]), "content of a");
    }
}

#[test]
fn a_repair_that_fails_says_what_it_has_done_before() {
    let bed = store_with_files("directory");
    let a = id_of(&bed, "s", "a");
    // Something else has the name that the lost one is to get, and a name leads nowhere.
    bed.ok(&["put", "s", "f", &format!("lost+found/{a}")]);
    std::fs::remove_file(bed.path("s/objects").join(id_of(&bed, "s", "b"))).expect("there");
    unname(&bed, "directory", &["a"]);
    let run = bed.run(&["repair", "s"]);
    run.failed(4, "exists already");
    run.failed(4, "name b led to");
}

#[test]
fn random_damage_of_an_image_is_never_a_panic() {
    let bed = store_with_files("image");
    let good = bed.read("s");
    let written: Vec<usize> = (0..good.len()).filter(|&at| good[at] != 0).collect();
    let mut state = 12345_u64;
    for round in 0..25 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = written[(state >> 33) as usize % written.len()];
        let mut bad = good.clone();
        bad[at] ^= 1 << (state % 8);
        fs::write(bed.path("s"), &bad).expect("writable");
        for command in
            [&["check", "s"][..], &["ls", "-l", "s"], &["cat", "s", "a"], &["gc", "s"], &["repair", "s"]]
        {
            let run = bed.run(command);
            assert!((0..=8).contains(&run.status), "round {round}, byte {at:#x}, {command:?}: {run:?}");
            assert!(!run.stderr.contains("panicked"), "round {round}, byte {at:#x}, {command:?}: {run:?}");
        }
    }
}

#[test]
fn directories_that_lead_into_each_other_are_damage() {
    use twizzler::collections::{BytesMap, MapRoot};
    let bed = Bed::new();
    bed.store("directory", "s");
    bed.ok(&["mkdir", "s", "dir"]);
    bed.write("f", "content");
    bed.ok(&["put", "s", "f", "dir/file"]);
    {
        let store = twizzler::Store::open(bed.path("s")).expect("opens");
        let guard = store.enter();
        let names = twizzler::Names::open(&guard).expect("names");
        // Behind the root's first two words; the keys are a directory's number and a name.
        let map = BytesMap::new(names.area().place::<MapRoot>(0x3000 + 16).expect("there"));
        let entries: Vec<(Vec<u8>, Vec<u8>)> = map.iter(&&guard).collect::<Result<_, _>>().expect("readable");
        let key = |name: &[u8]| entries.iter().find(|(key, _)| key.ends_with(name)).expect("there").clone();
        let (inside, (_, dir)) = (key(b"file").0[..8].to_vec(), key(b"dir"));
        guard.transact(|tx| map.insert(tx, &[&inside[..], b"again"].concat(), &dir).map(drop)).expect("room");
    }
    bed.fails(5, "in two places", &["tree", "s"]);
    let run = bed.run(&["check", "s"]);
    assert!(run.status == 1 && run.stdout.contains("in two places"), "{} {}", run.status, run.stdout);
    bed.fails(5, "--force", &["repair", "s"]);
    bed.ok(&["repair", "s", "--force"]);
    assert_eq!(bed.ok(&["check", "s"]).lines().last(), Some("clean"));
    assert!(bed.ok(&["tree", "s"]).starts_with("lost+found/"));
}
