//! What can be said of an object from its bytes: the facts that `ls`, `stat` and `show` give, and that `check` tests.

use std::mem::offset_of;
use std::ops::Range;

use serde::Serialize;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::ObjectStat;
use twizzler_abi::object::{
    BASE_OFFSET, FOT_INLINE_ENTRIES, FOT_OFFSET, HEADER_OFFSET, Header, METADATA_OFFSET, Metadata,
};
use twizzler_abi::pointer::{FOT_ENTRIES_MAX, FotEntry};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Durability, Error, Life, ObjId, Rights, SizeClass};
use twizzler_object::{Companion, Stored, TypeName};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::medium::Medium;

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Plain bytes.
    File,
    /// Its base is of a declared type.
    Typed,
    /// It can't be read.
    Damaged,
    /// It does not exist, though a name or pointer leads to it.
    Missing,
}

/// An object, in short.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// The ID: 32 hexadecimal digits.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Declared name of its base type.
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    /// Fingerprint of its base type: 16 hexadecimal digits.
    pub fingerprint: Option<String>,
    /// Bytes in use from the base: a file's length.
    pub len_bytes: u64,
    /// Bytes of its range, null page and metadata too: what it may grow to.
    pub range_bytes: u64,
    /// Bytes that are stored, with header, metadata and tables.
    pub stored_bytes: u64,
    /// What everyone may do with it.
    pub rights: String,
    /// Persistent or volatile, and how its changes become durable.
    pub life: String,
    /// ID of the owner's key, where there is one.
    pub owner: Option<String>,
    /// Why it can't be read, where it can't.
    pub damage: Option<String>,
}

impl Kind {
    /// In a word.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Typed => "typed",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
        }
    }
}

/// Rights in words.
#[must_use]
pub fn rights_text(rights: Rights) -> String {
    let names = [
        (Rights::READ, "read"),
        (Rights::WRITE, "write"),
        (Rights::EXECUTE, "execute"),
        (Rights::DELETE, "delete"),
    ];
    let granted: Vec<&str> =
        names.iter().filter(|(right, _)| rights.contains(*right)).map(|(_, name)| *name).collect();
    if granted.is_empty() { "none".to_owned() } else { granted.join(", ") }
}

fn life_text(flags: ObjectFlags) -> String {
    let life = match flags.life() {
        Life::Persistent => "persistent",
        Life::Volatile => "volatile",
    };
    let durability = match flags.durability() {
        Durability::InPlace => "in place",
        Durability::Versioned => "versioned",
    };
    format!("{life}, {durability}")
}

/// Facts about an object; one that is gone or damaged has few.
///
/// # Errors
/// The host's.
pub fn facts<M: Medium>(medium: &M, id: ObjId) -> Facts {
    let mut facts = Facts {
        id: id.to_string(),
        kind: Kind::Missing,
        type_name: None,
        fingerprint: None,
        len_bytes: 0,
        range_bytes: 0,
        stored_bytes: 0,
        rights: rights_text(Rights::empty()),
        life: String::new(),
        owner: None,
        damage: None,
    };
    let stat = match medium.stat(id) {
        Ok(stat) => stat,
        Err(error) => {
            if error != Error::NoSuchObject {
                facts.kind = Kind::Damaged;
                facts.damage = Some(error.to_string());
            }
            return facts;
        }
    };
    facts.stored_bytes = (stat.pages + stat.tables) * PAGE_BYTES;
    facts.len_bytes = stat.len_bytes;
    facts.range_bytes = class(&stat).map_or(0, SizeClass::range_bytes);
    facts.rights = rights_text(Rights::from_bits_truncate(stat.default_rights));
    facts.life = life_text(ObjectFlags::from_bits_truncate(stat.flags));
    facts.owner = (!stat.owner.is_none()).then(|| stat.owner.to_string());
    if stat.quarantine != 0 {
        facts.kind = Kind::Damaged;
        let error = Error::from_number(stat.quarantine).unwrap_or(Error::Damaged);
        facts.damage = Some(error.to_string());
        return facts;
    }
    facts.kind = if stat.fingerprint == 0 { Kind::File } else { Kind::Typed };
    if stat.fingerprint != 0 {
        facts.fingerprint = Some(format!("{:016x}", stat.fingerprint));
        facts.type_name = type_name(medium, id).ok().filter(|name| !name.is_empty());
    }
    facts
}

fn class(stat: &ObjectStat) -> Result<SizeClass, Error> {
    u8::try_from(stat.size_class).map_err(|_| Error::Damaged).and_then(SizeClass::try_from)
}

/// How far an object reaches now.
///
/// # Errors
/// Those of the store.
pub fn class_of<M: Medium>(medium: &M, id: ObjId) -> Result<SizeClass, Error> {
    class(&medium.stat(id)?)
}

/// Bytes that objects store, as far as that can be told.
#[must_use]
pub fn stored_bytes<M: Medium>(medium: &M, ids: &[ObjId]) -> u64 {
    ids.iter().map(|id| medium.stat(*id).map_or(0, |stat| stat.pages * PAGE_BYTES)).sum()
}

/// The declared name of an object's base type, as whoever made it wrote it.
///
/// # Errors
/// As [`Medium::read_raw`].
pub fn type_name<M: Medium>(medium: &M, id: ObjId) -> Result<String, Error> {
    let mut name = [0; twizzler_abi::object::TYPE_NAME_BYTES];
    medium.read_raw(id, HEADER_OFFSET + offset_of!(Header, type_name) as u64, &mut name)?;
    Ok(TypeName::new(name).to_string())
}

/// An object's metadata, as it lies there: perhaps wrong.
///
/// # Errors
/// As [`Medium::read_raw`].
pub fn metadata<M: Medium>(medium: &M, id: ObjId) -> Result<Metadata, Error> {
    let mut metadata = Metadata::new_zeroed();
    medium.read_raw(id, METADATA_OFFSET, metadata.as_mut_bytes())?;
    Ok(metadata)
}

/// An object's header, as it lies there: programs write it.
///
/// # Errors
/// As [`Medium::read_raw`].
pub fn header<M: Medium>(medium: &M, id: ObjId) -> Result<Header, Error> {
    let mut header = Header::new_zeroed();
    medium.read_raw(id, HEADER_OFFSET, header.as_mut_bytes())?;
    Ok(header)
}

/// The entries of an object's FOT that are in use, by index, as they lie there: in the object, and in its companion.
///
/// # Errors
/// [`Error::Damaged`] where there should be a companion and is none, and those of [`Medium::read_raw`].
pub fn fot<M: Medium>(medium: &M, id: ObjId, header: &Header) -> Result<Vec<FotEntry>, Error> {
    const INLINE: u64 = FOT_INLINE_ENTRIES as u64;
    let len = header.fot_len_entries.min(FOT_ENTRIES_MAX);
    let mut bytes = vec![0; len as usize * size_of::<FotEntry>()];
    let (inline, beyond) = bytes.split_at_mut(len.min(INLINE) as usize * size_of::<FotEntry>());
    medium.read_raw(id, FOT_OFFSET, inline)?;
    if !beyond.is_empty() {
        let companion = header.fot_companion;
        if companion.is_none() || metadata(medium, companion)?.fingerprint != Companion::FINGERPRINT {
            return Err(Error::Damaged);
        }
        let mut holder = ObjId::NONE;
        medium.read_raw(companion, BASE_OFFSET + Companion::holder.offset(), holder.as_mut_bytes())?;
        if holder != id {
            return Err(Error::Damaged);
        }
        medium.read_raw(companion, Companion::offset_of_entry(INLINE), beyond)?;
    }
    let entries = bytes.chunks_exact(size_of::<FotEntry>());
    Ok(entries.map(|entry| FotEntry::read_from_bytes(entry).expect("chunks of an entry")).collect())
}

/// Whether these bytes of a store's object are the same. No bytes: all zero. The lock word is nobody's business.
#[must_use]
pub fn is_equal<M: Medium>(medium: &M, id: ObjId, range: Range<u64>, bytes: &[u8]) -> bool {
    const STEP: u64 = 1 << 20;
    let lock = HEADER_OFFSET + offset_of!(Header, lock) as u64;
    let mut at = range.start;
    while at < range.end {
        let mut found = vec![0; STEP.min(range.end - at) as usize];
        if medium.read_raw(id, at, &mut found).is_err() {
            return false;
        }
        let first = (at - range.start) as usize;
        let mut expected = bytes.get(first..first + found.len()).map_or(vec![0; found.len()], <[u8]>::to_vec);
        for side in [&mut found, &mut expected] {
            if (at..at + side.len() as u64).contains(&lock) {
                let word = (lock - at) as usize;
                side[word..word + 8].fill(0);
            }
        }
        if found != expected {
            return false;
        }
        at += STEP;
    }
    true
}
