//! The record of a transaction, as it lies in a lane or a log: words.
//!
//! | word | |
//! |---|---|
//! | 0 | checksum of all that follows, seeded with the lane's generation |
//! | 1 | the transaction's number; short records: objects from bit 48, words in all from bit 52 |
//! | 2 | words in all |
//! | 3 | objects, and deletes in the upper half |
//! | 4 | zero, and objects made in the upper half |
//! | 5-7 | zero |
//! | then | objects: ID (2 words), new version, zero |
//! | then | IDs of objects to delete |
//! | then | what objects were made of: nonce (2 words), owner (2), flags and rights in the upper half, fingerprint; in logs alone |
//! | then | lines: object's number above bit 48, offset; mask of new bytes; the new bytes, packed, filled up to a word |
//!
//! Where bit 0 of a line's offset is set, whole lines follow each other: in place of the mask is how many, then come all their bytes.
//!
//! A *short* record neither makes nor deletes objects, and changes few lines of up to 15 objects. It lacks words 2 to 7 and the objects' zeros: what
//! changes a word in one object is one cache line, and each line costs.
//!
//! A record is valid where the checksum holds; all else is checked again when it is applied.

use alloc::vec::Vec;

use twizzler_abi::address::{range_bytes, range_start};
use twizzler_abi::call::CreateSpec;
use twizzler_abi::{Error, ObjId};

use crate::tx::overlay::runs_of;
pub use crate::tx::overlay::{LINE, Line};

/// Seed of the checksum of records in logs.
pub const LOG_SEED: u64 = 0;
/// In an object's version word: it has been deleted, so nothing that is written to it counts any more. Stored before the object goes, for those who
/// have it mapped; versions are smaller.
pub const DELETED: u64 = 1 << 63;
const SPEC_WORDS: usize = 6;
const HEAD_WORDS: usize = 8;
const OBJECT_WORDS: usize = 4;
const SHORT_HEAD_WORDS: usize = 2;
const SHORT_OBJECT_WORDS: usize = 3;
/// A record is at least as long.
const WORDS_MIN: u64 = 8;
/// Transactions have smaller numbers.
pub(crate) const TRANSACTIONS_MAX: u64 = 1 << SHORT_OBJECTS_BIT;
const SHORT_OBJECTS_BIT: u32 = 48;
const SHORT_WORDS_BIT: u32 = 52;
const SHORT_OBJECTS_MAX: usize = 15;
/// No more lines than fit so many words as a short record has at most.
const SHORT_LINES_MAX: usize = 256;
const OBJECT_BIT: u32 = 48;
/// In a line's offset: many whole lines.
const IS_RUN: u64 = 1;

/// Mixes words, four at a time; sensitive to order, so that a torn record shows.
pub(crate) fn checksum(seed: u64, words: &[u64]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| {
        let state = (state ^ word).wrapping_mul(ODD);
        state ^ state >> 32
    };
    let mut states = [1, 2, 3, 4].map(|n| mix(seed ^ 0x7477_697a_7a6c_6572, n));
    let (fours, rest) = words.as_chunks::<4>();
    for four in fours {
        for (state, &word) in states.iter_mut().zip(four) {
            *state = mix(*state, word);
        }
    }
    let state = rest.iter().chain(&states).fold(words.len() as u64, |state, &word| mix(state, word));
    state.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ state >> 29
}

/// The version that comes after one.
///
/// # Errors
/// [`Error::NoSuchObject`] where it is that of an object that has been [`DELETED`].
#[inline]
pub(crate) const fn version_after(version: u64) -> Result<u64, Error> {
    if version < DELETED { Ok(version + 1) } else { Err(Error::NoSuchObject) }
}

/// An object that a record changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changed {
    /// The object.
    pub id: ObjId,
    /// Its version after the transaction.
    pub version: u64,
}

/// What a record says beside its lines.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The transaction's number.
    pub transaction: u64,
    /// Where objects that change are mapped, and how they change.
    pub objects: &'a [(u64, Changed)],
    /// Objects that are deleted.
    pub deletes: &'a [ObjId],
    /// What objects that are made are made of.
    pub created: &'a [CreateSpec],
}

/// Builds a record in `words`, whatever they were. Lines are given by the addresses at which they are mapped, and lie in objects of the
/// content.
///
/// # Panics
/// Where one lies in another object.
pub fn encode_into(words: &mut Vec<u64>, seed: u64, content: &Content<'_>, lines: &[(u64, Line)]) {
    let is_short = content.deletes.is_empty()
        && content.created.is_empty()
        && (1..=SHORT_OBJECTS_MAX).contains(&content.objects.len())
        && (1..=SHORT_LINES_MAX).contains(&lines.len());
    words.clear();
    words.resize(if is_short { SHORT_HEAD_WORDS } else { HEAD_WORDS }, 0);
    for (_, Changed { id, version }) in content.objects {
        words.extend([id.hi, id.lo, *version]);
        if !is_short {
            words.push(0);
        }
    }
    for id in content.deletes {
        words.extend([id.hi, id.lo]);
    }
    for spec in content.created {
        words.extend(words_of_spec(spec));
    }
    push_lines(words, content, lines);
    let len = words.len() as u64;
    words[1] = content.transaction;
    if is_short {
        words[1] |= (content.objects.len() as u64) << SHORT_OBJECTS_BIT | len << SHORT_WORDS_BIT;
    } else {
        words[2] = len;
        words[3] = content.objects.len() as u64 | (content.deletes.len() as u64) << 32;
        words[4] = (content.created.len() as u64) << 32;
    }
    words[0] = checksum(seed, &words[1..]);
}

fn push_lines(words: &mut Vec<u64>, content: &Content<'_>, lines: &[(u64, Line)]) {
    let (mut number, mut object) = (0, 0..0);
    let mut rest = lines;
    while let [(address, line), ..] = rest {
        if !object.contains(address) {
            let start = range_start(*address);
            let found = content.objects.iter().position(|&(known, _)| known == start);
            number = found.expect("lines lie in objects of the record") as u64;
            object = start..start + range_bytes(start);
        }
        let place = number << OBJECT_BIT | (address - object.start);
        let run = if line.mask == u64::MAX { whole_lines(rest) } else { 1 };
        if run > 1 {
            words.extend([place | IS_RUN, run as u64]);
            let (now, then) = rest.split_at(run);
            now.iter().for_each(|(_, line)| words.extend(line.bytes.chunks_exact(8).map(word_of)));
            rest = then;
        } else {
            push_line(words, place, line);
            rest = &rest[1..];
        }
    }
}

/// How many whole lines of one object follow each other from the first one on.
fn whole_lines(lines: &[(u64, Line)]) -> usize {
    let Some(&(first, _)) = lines.first() else { return 0 };
    // The first line of an object's range is that of its null page, which is nobody's: so a run never leaves the object.
    let is_next = |&(at, &(address, ref line)): &(usize, &(u64, Line))| {
        line.mask == u64::MAX && address == first + at as u64 * LINE
    };
    lines.iter().enumerate().take_while(is_next).count()
}

/// A line alone: its place, its mask, and its new bytes, packed.
fn push_line(words: &mut Vec<u64>, place: u64, line: &Line) {
    let mut packed = [0; 16 + LINE as usize + 8];
    packed[..8].copy_from_slice(&place.to_le_bytes());
    packed[8..16].copy_from_slice(&line.mask.to_le_bytes());
    let mut len = 16;
    for (_, bytes, new) in line.words() {
        if new == u8::MAX {
            packed[len..len + 8].copy_from_slice(bytes);
            len += 8;
            continue;
        }
        for (first, run) in runs_of(new.into()) {
            // What is beyond the run is written over, or cut off at the end.
            packed[len..len + 8].copy_from_slice(&(u64::from_le_bytes(*bytes) >> (8 * first)).to_le_bytes());
            len += run as usize;
        }
    }
    packed[len..len + 8].fill(0);
    words.extend(packed[..len.next_multiple_of(8)].chunks_exact(8).map(word_of));
}

fn words_of_spec(spec: &CreateSpec) -> [u64; SPEC_WORDS] {
    let [low, high] = [word_of(&spec.nonce[..8]), word_of(&spec.nonce[8..])];
    let flags = u64::from(spec.flags) | u64::from(spec.default_rights) << 32;
    [low, high, spec.owner.hi, spec.owner.lo, flags, spec.fingerprint]
}

fn spec_of(words: &[u64]) -> CreateSpec {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&words[0].to_le_bytes());
    nonce[8..].copy_from_slice(&words[1].to_le_bytes());
    CreateSpec {
        nonce,
        owner: ObjId { hi: words[2], lo: words[3] },
        flags: words[4] as u32,
        default_rights: (words[4] >> 32) as u32,
        fingerprint: words[5],
    }
}

fn word_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("chunks of eight"))
}

/// Words of the record that begins with these, if it can be one that fits `room` words.
pub(crate) fn words_of(head: &[u64; HEAD_WORDS], room: u64) -> Option<usize> {
    let words = if head[1] >> SHORT_OBJECTS_BIT == 0 { head[2] } else { head[1] >> SHORT_WORDS_BIT };
    (WORDS_MIN..=room).contains(&words).then_some(words as usize)
}

/// A valid record.
#[derive(Debug)]
pub struct Record<'a> {
    pub(crate) transaction: u64,
    objects: &'a [u64],
    /// Words of each.
    object_words: usize,
    deletes: &'a [u64],
    created: &'a [u64],
    lines: &'a [u64],
}

impl<'a> Record<'a> {
    /// The record in these words, if it is one with a checksum of this seed. What it says may still make no sense.
    #[must_use]
    pub fn decode(generation: u64, words: &'a [u64]) -> Option<Self> {
        let head = words.first_chunk::<HEAD_WORDS>()?;
        if head[0] != checksum(generation, &words[1..]) || words_of(head, words.len() as u64)? != words.len()
        {
            return None;
        }
        let transaction = head[1] & (TRANSACTIONS_MAX - 1);
        if head[1] != transaction {
            let objects = (head[1] >> SHORT_OBJECTS_BIT & SHORT_OBJECTS_MAX as u64) as usize;
            let (objects, lines) =
                words[SHORT_HEAD_WORDS..].split_at_checked(objects * SHORT_OBJECT_WORDS)?;
            let object_words = SHORT_OBJECT_WORDS;
            return Some(Self { transaction, objects, object_words, deletes: &[], created: &[], lines });
        }
        let objects = ((head[3] & 0xffff_ffff) as usize).checked_mul(OBJECT_WORDS)?;
        let deletes = ((head[3] >> 32) as usize).checked_mul(2)?;
        let (objects, body) = words[HEAD_WORDS..].split_at_checked(objects)?;
        let (deletes, body) = body.split_at_checked(deletes)?;
        let created = ((head[4] >> 32) as usize).checked_mul(SPEC_WORDS)?;
        let (created, lines) = body.split_at_checked(created)?;
        Some(Self { transaction, objects, object_words: OBJECT_WORDS, deletes, created, lines })
    }

    /// The objects that it changes, numbered from 0.
    pub fn objects(&self) -> impl Iterator<Item = Changed> + use<'a> {
        self.objects
            .chunks_exact(self.object_words)
            .map(|o| Changed { id: ObjId { hi: o[0], lo: o[1] }, version: o[2] })
    }

    /// What the objects that it makes were made of.
    pub fn created(&self) -> impl Iterator<Item = CreateSpec> + use<'a> {
        self.created.chunks_exact(SPEC_WORDS).map(spec_of)
    }

    /// The objects that it deletes.
    pub fn deletes(&self) -> impl Iterator<Item = ObjId> + use<'a> {
        self.deletes.chunks_exact(2).map(|id| ObjId { hi: id[0], lo: id[1] })
    }

    /// Lines: (object's number, offset in it, new bytes). Numbers and offsets may be wrong. An error ends them.
    pub fn lines(&self) -> impl Iterator<Item = Result<(usize, u64, Line), Error>> + use<'a> {
        let mut lines = Lines { rest: self.lines, run: 0, next: 0 };
        core::iter::from_fn(move || {
            if lines.rest.is_empty() {
                return None;
            }
            let line = lines.take().ok_or(Error::Damaged);
            if line.is_err() {
                lines.rest = &[];
            }
            Some(
                line.map(|(place, line)| {
                    ((place >> OBJECT_BIT) as usize, place & ((1 << OBJECT_BIT) - 1), line)
                }),
            )
        })
    }
}

/// What is left of the lines.
struct Lines<'a> {
    rest: &'a [u64],
    /// Whole lines that follow, and the place of the first one.
    run: u64,
    next: u64,
}

impl<'a> Lines<'a> {
    fn take(&mut self) -> Option<(u64, Line)> {
        let (mut place, mut mask) = (self.next, u64::MAX);
        if self.run == 0 {
            [place, mask] = *self.words(2)?.first_chunk()?;
            if place & IS_RUN != 0 {
                (place, self.run, mask) = (place & !IS_RUN, mask, u64::MAX);
                // One that goes on for longer than there are words ends for want of them.
                if self.run == 0 {
                    return None;
                }
            }
        }
        let mut line = Line { mask, bytes: [0; LINE as usize] };
        let packed = self.words((mask.count_ones() as usize).div_ceil(8))?;
        if mask == u64::MAX {
            for (bytes, word) in line.bytes.chunks_exact_mut(8).zip(packed) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        } else {
            let mut bytes = packed.iter().flat_map(|word| word.to_le_bytes());
            for at in (0..64).filter(|at| mask >> at & 1 != 0) {
                line.bytes[at] = bytes.next()?;
            }
        }
        self.run = self.run.saturating_sub(1);
        self.next = place.wrapping_add(LINE);
        Some((place, line))
    }

    fn words(&mut self, len: usize) -> Option<&'a [u64]> {
        let (words, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(words)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use twizzler_abi::address::SLOT_BYTES;

    /// A record of lines: (object's number, offset, line).
    fn encode(
        seed: u64,
        transaction: u64,
        objects: &[Changed],
        deletes: &[ObjId],
        created: &[CreateSpec],
        lines: &[(usize, u64, Line)],
    ) -> Vec<u64> {
        let objects: Vec<_> =
            objects.iter().enumerate().map(|(n, &object)| (n as u64 * SLOT_BYTES, object)).collect();
        let lines: Vec<_> = lines.iter().map(|&(n, at, line)| (n as u64 * SLOT_BYTES + at, line)).collect();
        let mut words = std::vec![7; 3];
        encode_into(&mut words, seed, &Content { transaction, objects: &objects, deletes, created }, &lines);
        words
    }

    fn line(mask: u64, fill: u8) -> Line {
        let mut line = Line { mask, bytes: [0; 64] };
        for at in 0..64 {
            if mask >> at & 1 != 0 {
                line.bytes[at] = fill.wrapping_add(at as u8);
            }
        }
        line
    }

    #[test]
    fn a_word_is_one_cache_line_and_whole_lines_cost_their_bytes() {
        let objects = [Changed { id: ObjId::new(5), version: 9 }];
        let word = encode(1, 2, &objects, &[], &[], &[(0, 64, line(0xff, 1))]);
        assert_eq!(word.len(), 8);
        let lines = |len: u64| (0..len).map(|n| (0, n * 64, line(u64::MAX, n as u8))).collect::<Vec<_>>();
        assert_eq!(encode(1, 2, &objects, &[], &[], &lines(64)).len(), 5 + 2 + 64 * 8);
        assert_eq!(encode(1, 2, &objects, &[], &[], &lines(5000)).len(), 12 + 2 + 5000 * 8);
    }

    proptest! {
        #[test]
        fn records_round_trip(generation: u64, masks in prop::collection::vec(prop_oneof![any::<u64>(), Just(u64::MAX)], 0..20), deletes in prop::collection::vec(any::<u128>(), 0..3)) {
            let lines: Vec<_> = masks.iter().enumerate().map(|(i, &mask)| (i % 2, i as u64 * 64, line(mask, i as u8))).collect();
            let objects = [Changed { id: ObjId::new(5), version: 9 }, Changed { id: ObjId::new(6), version: 1 }];
            let specs: Vec<_> = deletes.iter().map(|&n| CreateSpec { nonce: n.to_le_bytes(), owner: ObjId::new(n >> 3), flags: 1, default_rights: n as u32, fingerprint: 7 }).collect();
            let deletes: Vec<_> = deletes.into_iter().map(ObjId::new).collect();
            let words = encode(generation, 77, &objects, &deletes, &specs, &lines);
            let record = Record::decode(generation, &words).expect("valid");
            prop_assert_eq!(record.transaction, 77);
            prop_assert!(record.objects().eq(objects));
            prop_assert!(record.deletes().eq(deletes));
            prop_assert!(record.created().eq(specs));
            let back: Vec<_> = record.lines().map(|l| l.expect("valid")).collect();
            prop_assert_eq!(back.len(), lines.len());
            for (a, b) in back.iter().zip(&lines) {
                prop_assert_eq!((a.0, a.1, a.2.mask, a.2.bytes), (b.0, b.1, b.2.mask, b.2.bytes));
            }
            prop_assert!(Record::decode(generation.wrapping_add(1), &words).is_none());
        }

        #[test]
        fn a_flipped_bit_makes_it_void(mask: u64, word in 0usize..12, bit in 0u32..64) {
            let l = line(mask | 0xff << 56, 3);
            let mut words = encode(1, 2, &[Changed { id: ObjId::new(5), version: 9 }], &[], &[], &[(0, 64, l)]);
            let word = word % words.len();
            words[word] ^= 1 << bit;
            prop_assert!(Record::decode(1, &words).is_none());
        }

        #[test]
        fn hostile_words_give_errors(mut words in prop::collection::vec(any::<u64>(), 8..60), objects in 0u64..8, deletes in 0u64..8) {
            words[2] = words.len() as u64;
            words[3] = objects | deletes << 32;
            words[0] = checksum(3, &words[1..]);
            if let Some(record) = Record::decode(3, &words) {
                let _ = (record.objects().count(), record.deletes().count(), record.lines().count());
            }
        }
    }
}
