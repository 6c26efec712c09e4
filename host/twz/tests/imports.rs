//! Imports that find something in the way, or fail on their way: what is there stays, and what is half done can be completed.
#![forbid(unsafe_code)]

mod common;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{Bed, KINDS};
use twizzler::{Observer, Options, Step};
use twizzler_abi::ObjId;
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::{HEADER_OFFSET, Metadata};
use twizzler_abi::rights::ObjectFlags;
use twz::archive::write::Writer;
use twz::archive::{Head, MAGIC, ObjectRecord, Tag, VERSION};
use twz::commands::import;
use twz::open::Opened;
use twz::status::{Failure, Status};
use zerocopy::IntoBytes;

/// A store with these files, exported.
fn archive_of(bed: &Bed, archive: &str, names: &[&str]) {
    let store = format!("of-{archive}");
    bed.store("directory", &store);
    for name in names {
        bed.write("f", format!("{archive}: {name}"));
        bed.ok(&["put", &store, "f", name]);
    }
    bed.ok(&["export", &store, archive]);
}

/// What is refused changes nothing: no object is made either.
fn is_refused(bed: &Bed, what: &str, arguments: &[&str]) {
    let before = bed.ok(&["tree", "t"]);
    bed.fails(4, what, arguments);
    assert_eq!(bed.ok(&["tree", "t"]), before);
    assert_eq!(bed.ok(&["gc", "t"]), "something leads to every object\n", "{arguments:?}");
}

#[test]
fn what_is_in_the_way_is_found_before_anything_is_made() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "t");
        archive_of(&bed, "a", &["one", "two/three"]);
        // An object where the archive has a directory on the way.
        bed.ok(&["put", "t", "f", "two"]);
        is_refused(&bed, "two leads to something else", &["import", "t", "a"]);
        is_refused(&bed, "two leads to something else", &["import", "t", "a", "--into", "two/four"]);
        assert!(bed.ok(&["import", "t", "a", "--keep"]).contains("kept"));
        assert_eq!(bed.ok(&["tree", "t"]), "one\ntwo\n");
        bed.ok(&["import", "t", "a", "--replace"]);
        assert_eq!(bed.ok(&["tree", "t"]), "one\ntwo/\n  three\n", "{kind}");
        bed.run(&["gc", "t", "--delete"]);
        // A directory where the archive has an object.
        bed.ok(&["rm", "t", "one"]);
        bed.ok(&["mkdir", "t", "one", "one/more"]);
        is_refused(&bed, "one leads to something else", &["import", "t", "a"]);
        is_refused(&bed, "one is a directory", &["import", "t", "a", "--replace"]);
        bed.ok(&["import", "t", "a", "--keep"]);
        assert_eq!(bed.ok(&["tree", "t"]), "one/\n  more/\ntwo/\n  three\n", "{kind}");
        assert_eq!(bed.ok(&["check", "t"]).lines().last(), Some("clean"), "{kind}");
    }
}

/// An archive of objects that hold nothing but these pages of zeros, with these names.
fn made_by_hand(bed: &Bed, zeros: &[(u64, u64)], names: &[(&str, usize)]) -> Vec<ObjId> {
    let objects = [1, 2].map(|number| {
        let inputs = IdInputs {
            nonce: [0x80 + number; 16],
            owner: ObjId::NONE,
            flags: ObjectFlags::PERSISTENT,
            default_rights: twizzler_abi::call::USUAL_RIGHTS,
        };
        Metadata::new(&inputs, 0)
    });
    let (count, bytes) = (names.len() as u64, 0);
    let head = Head {
        magic: MAGIC,
        version: VERSION,
        features: 0,
        objects: 2,
        names: count,
        bytes,
        reserved: [0; 3],
    };
    let mut writer = Writer::new(Vec::new(), &head).expect("memory");
    for metadata in &objects {
        let record = ObjectRecord { id: metadata.id, revocation: 0, size_class: 1, reserved: 0 };
        writer.record(Tag::Object, &[record.as_bytes(), metadata.as_bytes()].concat()).expect("memory");
        for (offset, len) in zeros {
            let body = [offset.to_le_bytes(), len.to_le_bytes()].concat();
            writer.record(Tag::Zeros, &body).expect("memory");
        }
    }
    for (name, object) in names {
        let body = [objects[*object].id.as_bytes(), name.as_bytes()].concat();
        writer.record(Tag::Name, &body).expect("memory");
    }
    bed.write("a", writer.finish().expect("memory").0);
    objects.map(|metadata| metadata.id).to_vec()
}

#[test]
fn archives_that_contradict_themselves_are_refused_whole() {
    for kind in KINDS {
        let bed = Bed::new();
        bed.store(kind, "t");
        let page = [(HEADER_OFFSET, 4096)];
        let nothing_is_made = |status: i32, what: &str| {
            for option in ["--keep", "--replace"] {
                bed.fails(status, what, &["import", "t", "a", option]);
            }
            bed.fails(status, what, &["import", "t", "a"]);
            assert_eq!(bed.ok(&["tree", "t"]), "");
            assert_eq!(bed.ok(&["gc", "t"]), "something leads to every object\n");
        };
        made_by_hand(&bed, &page, &[("p", 0), ("p", 1)]);
        nothing_is_made(5, "name p twice");
        made_by_hand(&bed, &page, &[("p", 0), ("p/q", 1)]);
        nothing_is_made(5, "name p for an object and for a directory");
        made_by_hand(&bed, &[(HEADER_OFFSET, 4096), (HEADER_OFFSET, 4096)], &[("p", 0)]);
        nothing_is_made(5, "out of order");
        made_by_hand(&bed, &page, &[("p", 0), ("p", 0), ("q", 1)]);
        bed.ok(&["import", "t", "a"]);
        assert_eq!(bed.ok(&["tree", "t"]), "p\nq\n");
    }
}

/// Does something before a step of the disk, which may fail then.
struct Before<F>(F);

impl<F> fmt::Debug for Before<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk that fails")
    }
}

impl<F: Fn(Step<'_>) -> io::Result<()> + Send + Sync> Observer for Before<F> {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        (self.0)(step)
    }
}

/// `import` with a disk that does what `before` says.
fn import_with(
    path: &Path,
    archive: &Path,
    replace: bool,
    before: impl Fn(Step<'_>) -> io::Result<()> + Send + Sync + 'static,
) -> Result<(), Failure> {
    let store = Options::new().any_durability().observer(Arc::new(Before(before))).open(path).expect("opens");
    let opened: Opened<twizzler::HostedBackend> = Opened::new(path, store);
    let arguments = import::Arguments {
        store: path.to_owned(),
        archive: archive.to_owned(),
        into: String::new(),
        keep: false,
        replace,
    };
    let done = import::run(&opened, &arguments).map(drop);
    // A store whose sync has failed can't be closed in order.
    let _ = opened.close();
    done
}

/// Pages of zeros are short to say, and may be more than there is room for.
#[test]
fn what_has_no_room_is_refused_before_room_is_taken() {
    let bed = Bed::new();
    bed.store("directory", "t");
    if bed.json(&["stat", "t"])["free_bytes"].as_u64().expect("a number") > 800 << 30 {
        return;
    }
    made_by_hand(&bed, &[(HEADER_OFFSET, 400 << 30)], &[("p", 0)]);
    let made = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&made);
    let failed = import_with(&bed.path("t"), &bed.path("a"), false, move |step| {
        if matches!(step, Step::Allocate(path, ..) if path.starts_with("new/")) {
            seen.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    });
    assert_eq!(failed.expect_err("there is no room").status, Status::Room);
    assert_eq!(made.load(Ordering::Relaxed), 0);
}

/// Leads to another object by its ID.
fn holder(bed: &Bed, store: &str, name: &str, to: &str) {
    let id = bed.json(&["stat", store, to])["objects"][0]["id"].as_str().expect("an ID").to_owned();
    bed.write("f", u128::from_str_radix(&id, 16).expect("an ID").to_le_bytes());
    bed.ok(&["put", store, "f", name]);
}

#[test]
fn a_replacement_that_fails_leaves_old_or_new_and_what_the_new_lead_to() {
    for failing in 0..3 {
        let bed = Bed::new();
        bed.store("directory", "s");
        bed.store("directory", "t");
        let names = ["a", "b", "c"];
        for name in names {
            bed.write("f", format!("old {name}"));
            bed.ok(&["put", "s", "f", name]);
        }
        bed.ok(&["export", "s", "old"]);
        bed.ok(&["import", "t", "old"]);
        // The same objects, with other content, and one more.
        let store = twizzler::Store::open(bed.path("s")).expect("opens");
        {
            let guard = store.enter();
            let all = twizzler::Names::open(&guard).expect("names");
            for name in names {
                let id = all.object(name).expect("named");
                guard
                    .transact(|tx| {
                        let area = tx.open_any(id, twizzler::Access::Write)?;
                        tx.write_at(area, 0, b"new")
                    })
                    .expect("changes");
            }
        }
        store.close().expect("closes");
        holder(&bed, "s", "holder", "a");
        bed.ok(&["export", "s", "new"]);
        let tried = AtomicU32::new(0);
        let failed = import_with(&bed.path("t"), &bed.path("new"), true, move |step| match step {
            Step::Rename(from, _)
                if from.starts_with("new/") && tried.fetch_add(1, Ordering::Relaxed) == failing + 1 =>
            {
                Err(io::Error::from_raw_os_error(5))
            }
            _ => Ok(()),
        });
        assert_eq!(failed.expect_err("the disk fails").status, Status::Damaged);
        let content = |name: &str| bed.ok(&["cat", "t", name]);
        let replaced = names.iter().filter(|name| content(name) == format!("new {name}")).count();
        let kept = names.iter().filter(|name| content(name) == format!("old {name}")).count();
        assert_eq!((replaced, kept), (failing as usize, 3 - failing as usize));
        assert_eq!(bed.ok(&["check", "t"]).lines().last(), Some("clean"));
        // The new object, which those in place might lead to.
        assert!(failing == 0 || bed.json(&["stat", "t"])["objects"] == bed.json(&["stat", "s"])["objects"]);
        bed.ok(&["import", "t", "new", "--replace"]);
        assert!(names.iter().all(|name| content(name) == format!("new {name}")));
        assert_eq!(bed.ok(&["gc", "t"]), "something leads to every object\n");
    }
}

/// Two import the same; the first fails on its way, when the other is done.
#[test]
fn an_import_that_fails_takes_nothing_from_another_one() {
    let bed = Arc::new(Bed::new());
    bed.store("directory", "t");
    archive_of(&bed, "a", &["one", "two", "three"]);
    let (other, begun) = (Arc::clone(&bed), AtomicU32::new(0));
    let failed = import_with(&bed.path("t"), &bed.path("a"), false, move |step| match step {
        // As the last of three is being made.
        Step::Create(path) if path.starts_with("new/") && begun.fetch_add(1, Ordering::Relaxed) == 2 => {
            other.ok(&["import", "t", "a"]);
            Err(io::Error::from_raw_os_error(28))
        }
        _ => Ok(()),
    });
    assert_eq!(failed.expect_err("the disk is full").status, Status::Room);
    for name in ["one", "two", "three"] {
        assert_eq!(bed.ok(&["cat", "t", name]), format!("a: {name}"));
    }
    assert_eq!(bed.ok(&["check", "t"]).lines().last(), Some("clean"));
    assert_eq!(bed.ok(&["gc", "t"]), "something leads to every object\n");
}
