//! Buckets: a frame of 63 object entries of one line each, after a line that says what the frame is.

use twizzler_abi::ObjId;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::{LINE_BYTES, Persist};

use super::word::CommitWord;

/// Entries of a bucket.
pub(crate) const ENTRIES: usize = (PAGE_BYTES / LINE_BYTES) as usize - 1;
/// "TWZBUCKT".
const MAGIC: u64 = u64::from_le_bytes(*b"TWZBUCKT");

/// Words of an entry, by offset in its line.
pub(crate) mod field {
    /// Bits 64-127 of the ID.
    pub(crate) const ID_HI: u64 = 0;
    /// Bits 0-63 of the ID.
    pub(crate) const ID_LO: u64 = 8;
    /// The commit word.
    pub(crate) const COMMIT: u64 = 16;
    /// Revocation generation: never goes back. 0 for now.
    pub(crate) const REVOCATION: u64 = 24;
    /// Last word: CRC-32 over all others but the commit word.
    pub(crate) const CHECK: u64 = 56;
}

/// An entry of the object table, where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    /// Offset of its line.
    pub(crate) at: u64,
}

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    /// No object.
    Free,
    /// An object, with its ID.
    Live(ObjId, CommitWord),
    /// Fails its check; the ID that it claims, and the commit word if that is sound.
    Bad(ObjId, Option<CommitWord>),
    /// The media can't be read there.
    Unreadable,
}

/// The entries of the bucket in `frame`, from the one at which `id` is looked for first.
pub(crate) fn slots(frame: u64, id: ObjId) -> impl Iterator<Item = Slot> {
    let home = (id.lo % ENTRIES as u64) as usize;
    (0..ENTRIES).map(move |i| slot(frame, (home + i) % ENTRIES))
}

/// Entry by number.
pub(crate) const fn slot(frame: u64, number: usize) -> Slot {
    Slot { at: frame * PAGE_BYTES + (number as u64 + 1) * LINE_BYTES }
}

/// What an entry says.
pub(crate) fn read<P: Persist>(media: &P, slot: Slot) -> Record {
    if media.check_readable(slot.at, LINE_BYTES).is_err() {
        return Record::Unreadable;
    }
    let commit = media.load(slot.at + field::COMMIT);
    if commit == 0 {
        return Record::Free;
    }
    let id = id_of(media, slot);
    match CommitWord::decode(commit) {
        Some(word) if media.load(slot.at + field::CHECK) == check(media, slot) => Record::Live(id, word),
        word => Record::Bad(id, word),
    }
}

/// Whether an entry is in use and claims that ID: what a search looks at before it checks anything.
pub(crate) fn is_for<P: Persist>(media: &P, slot: Slot, id: ObjId) -> bool {
    media.check_readable(slot.at, LINE_BYTES).is_ok()
        && media.load(slot.at + field::COMMIT) != 0
        && id_of(media, slot) == id
}

/// Whether an entry is free.
pub(crate) fn is_free<P: Persist>(media: &P, slot: Slot) -> bool {
    media.check_readable(slot.at, LINE_BYTES).is_ok() && media.load(slot.at + field::COMMIT) == 0
}

/// The ID that an entry claims.
pub(crate) fn id_of<P: Persist>(media: &P, slot: Slot) -> ObjId {
    ObjId { hi: media.load(slot.at + field::ID_HI), lo: media.load(slot.at + field::ID_LO) }
}

/// Writes an entry's body, for an entry that is free, and flushes it. It stays free until its commit word is stored.
pub(crate) fn write_body<P: Persist>(media: &P, slot: Slot, id: ObjId, revocation: u64) {
    let mut line = [0; LINE_BYTES as usize];
    let mut put = |at: u64, word: u64| line[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
    put(field::ID_HI, id.hi);
    put(field::ID_LO, id.lo);
    put(field::REVOCATION, revocation);
    let sum = sum(&line);
    line[field::CHECK as usize..].copy_from_slice(&sum.to_le_bytes());
    media.write(slot.at, &line);
    media.flush(slot.at, LINE_BYTES);
}

fn check<P: Persist>(media: &P, slot: Slot) -> u64 {
    let mut line = [0; LINE_BYTES as usize];
    media.read(slot.at, &mut line);
    sum(&line)
}

/// CRC-32 of an entry's words but commit word and check.
fn sum(line: &[u8; LINE_BYTES as usize]) -> u64 {
    let mut covered = [0; field::CHECK as usize - 8];
    let (before, after) = covered.split_at_mut(field::COMMIT as usize);
    before.copy_from_slice(&line[..field::COMMIT as usize]);
    after.copy_from_slice(&line[field::REVOCATION as usize..field::CHECK as usize]);
    crc32fast::hash(&covered).into()
}

/// The first line of a bucket in `frame` of the store with that UUID.
fn header(frame: u64, uuid: &[u8; 16]) -> [u8; LINE_BYTES as usize] {
    let mut line = [0; LINE_BYTES as usize];
    line[..8].copy_from_slice(&MAGIC.to_le_bytes());
    line[8..16].copy_from_slice(&frame.to_le_bytes());
    line[16..32].copy_from_slice(uuid);
    let check = crc32fast::hash(&line[..60]);
    line[60..].copy_from_slice(&check.to_le_bytes());
    line
}

/// Writes the first line and flushes it.
pub(crate) fn write_header<P: Persist>(media: &P, frame: u64, uuid: &[u8; 16]) {
    media.write(frame * PAGE_BYTES, &header(frame, uuid));
    media.flush(frame * PAGE_BYTES, LINE_BYTES);
}

/// Whether there is a bucket in `frame`.
pub(crate) fn has_header<P: Persist>(media: &P, frame: u64, uuid: &[u8; 16]) -> bool {
    let mut line = [0; LINE_BYTES as usize];
    media.read(frame * PAGE_BYTES, &mut line);
    line == header(frame, uuid)
}
