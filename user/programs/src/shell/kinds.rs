//! What is known of typed objects: who reads them, and who deletes them where they own other objects.

use alloc::format;
use alloc::string::String;

use twizzler_object::Stored;

/// A type that programs of this system use.
struct Kind {
    fingerprint: u64,
    /// What such an object holds.
    holds: &'static str,
    /// How to see what is in it, with `NAME` for its name.
    reads: &'static str,
    /// What deletes it, where it owns other objects or is owned by one.
    deletes: Option<&'static str>,
}

const KINDS: [Kind; 2] = [
    Kind {
        fingerprint: twizzler_kv::StoreRoot::FINGERPRINT,
        holds: "a key-value store",
        reads: "`kv scan NAME` writes its entries, `kv load` reads such lines",
        deletes: None,
    },
    Kind {
        fingerprint: twizzler_index::IndexRoot::FINGERPRINT,
        holds: "an index",
        reads: "`index help` tells how to use it",
        deletes: Some("`index drop NAME` deletes it with all its objects"),
    },
];

const INDEX_PART: Kind = Kind {
    fingerprint: 0,
    holds: "a part of an index",
    reads: "`index help` tells how to use it",
    deletes: Some("`index drop` deletes the whole index"),
};

fn kind(fingerprint: u64) -> Option<&'static Kind> {
    if twizzler_index::PART_FINGERPRINTS.contains(&fingerprint) {
        return Some(&INDEX_PART);
    }
    KINDS.iter().find(|kind| kind.fingerprint == fingerprint)
}

/// Why an object of that type can't be used as a file.
pub(super) fn not_a_file(name: &str, fingerprint: u64) -> String {
    match kind(fingerprint) {
        Some(kind) => {
            format!("{name} holds {}, not a file; {}", kind.holds, kind.reads.replace("NAME", name))
        }
        None => format!(
            "{name} holds typed data, not a file; `show` shows its values, the program that made it reads it"
        ),
    }
}

/// Why an object of that type can't be deleted alone, if so.
pub(super) fn not_alone(name: &str, fingerprint: u64) -> Option<String> {
    let kind = kind(fingerprint)?;
    let deletes = kind.deletes?.replace("NAME", name);
    Some(format!("{name} holds {}; {deletes} (`rm -f` takes this one object alone)", kind.holds))
}
