//! Nodes of a segment's dictionary: a tree over the words, written once from left to right.
//!
//! | bytes | |
//! |---|---|
//! | 4 | CRC-32 of the rest |
//! | 2 | level: 0 for leaves |
//! | 2 | entries |
//! | 8 for each entry | invariant pointer: leaves to the word's postings, others to a node one level below |
//! | the rest | entries, in byte order of their words |
//!
//! An entry: how many bytes of its word are those of the entry before, how many follow, those bytes, the bytes of what the
//! pointer points to; in leaves also occurrences, documents and the postings' CRC-32. In higher nodes the word is the
//! shortest that separates the child from the one before. Nodes have about [`NODE_BYTES`], more where one word needs it.

use alloc::vec::Vec;
use core::cmp::Ordering;

use twizzler_abi::Error;
use twizzler_abi::pointer::PointerBits;

use crate::varint::{decode, decode_u32, encode, take};

/// Bytes from which on a node is full.
pub(crate) const NODE_BYTES: usize = 1024;
const HEAD_BYTES: usize = 8;

/// What an entry says of its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Target {
    /// Where the postings or the child lie, as seen from the object that holds the node.
    pub(crate) pointer: PointerBits,
    /// Offset of the pointer in the node.
    pub(crate) place: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Occurrences in all documents. Leaves only, like the following.
    pub(crate) total: u64,
    /// Documents that have the word.
    pub(crate) documents: u32,
    /// CRC-32 of the postings.
    pub(crate) checksum: u32,
}

/// A node in the making.
#[derive(Default)]
pub(crate) struct NodeWriter {
    level: u16,
    pointers: Vec<PointerBits>,
    entries: Vec<u8>,
    last: Vec<u8>,
}

impl NodeWriter {
    pub(crate) fn new(level: u16) -> Self {
        Self { level, ..Self::default() }
    }

    /// True where the next entry belongs to the next node.
    pub(crate) fn is_full(&self) -> bool {
        HEAD_BYTES + self.pointers.len() * 8 + self.entries.len() >= NODE_BYTES || self.pointers.len() >= 512
    }

    /// Appends an entry; its word is above the last one.
    pub(crate) fn push(&mut self, word: &[u8], target: &Target) {
        let shared = shared_prefix(word, &self.last);
        let entries = &mut self.entries;
        encode(shared as u64, |b| entries.push(b));
        encode((word.len() - shared) as u64, |b| entries.push(b));
        entries.extend_from_slice(&word[shared..]);
        encode(target.bytes, |b| entries.push(b));
        if self.level == 0 {
            encode(target.total, |b| entries.push(b));
            encode(target.documents.into(), |b| entries.push(b));
            entries.extend_from_slice(&target.checksum.to_le_bytes());
        }
        self.last.truncate(shared);
        self.last.extend_from_slice(&word[shared..]);
        self.pointers.push(target.pointer);
    }

    /// The node's bytes; empties the writer.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut node = Vec::with_capacity(HEAD_BYTES + self.pointers.len() * 8 + self.entries.len());
        node.extend_from_slice(&[0; 4]);
        node.extend_from_slice(&self.level.to_le_bytes());
        let count = u16::try_from(self.pointers.len()).expect("is_full keeps them few");
        node.extend_from_slice(&count.to_le_bytes());
        for pointer in self.pointers.drain(..) {
            node.extend_from_slice(&pointer.0.to_le_bytes());
        }
        node.append(&mut self.entries);
        self.last.clear();
        let checksum = crc32fast::hash(&node[4..]);
        node[..4].copy_from_slice(&checksum.to_le_bytes());
        node
    }
}

/// Bytes that both words begin with.
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A node that was read and whose checksum is right. Its content is checked as it is decoded.
pub(crate) struct Node<B> {
    bytes: B,
    level: u16,
    count: usize,
}

impl<B: AsRef<[u8]>> Node<B> {
    /// # Errors
    /// [`Error::Damaged`] where the bytes are no node of that level.
    pub(crate) fn parse(bytes: B, level: u16) -> Result<Self, Error> {
        let (head, rest) = bytes.as_ref().split_first_chunk::<HEAD_BYTES>().ok_or(Error::Damaged)?;
        let [c0, c1, c2, c3, l0, l1, n0, n1] = *head;
        let count = usize::from(u16::from_le_bytes([n0, n1]));
        if u32::from_le_bytes([c0, c1, c2, c3]) != crc32fast::hash(&bytes.as_ref()[4..])
            || u16::from_le_bytes([l0, l1]) != level
            || rest.len() < count * 8
        {
            return Err(Error::Damaged);
        }
        Ok(Self { bytes, level, count })
    }

    /// The entries from the first on.
    pub(crate) fn entries(&self) -> Entries<'_> {
        let rest = &self.bytes.as_ref()[HEAD_BYTES..];
        let (pointers, rest) = rest.split_at(self.count * 8);
        Entries { level: self.level, place: HEAD_BYTES as u64, pointers, rest, word: Vec::new() }
    }

    /// The entry of exactly this word; in a leaf.
    pub(crate) fn find(&self, word: &[u8]) -> Result<Option<Target>, Error> {
        let mut entries = self.entries();
        while let Some(target) = entries.next()? {
            match entries.word().cmp(word) {
                Ordering::Less => {}
                Ordering::Equal => return Ok(Some(target)),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// The last entry whose word is not above this one: the child that has it, if any has.
    pub(crate) fn child(&self, word: &[u8]) -> Result<Option<Target>, Error> {
        let (mut entries, mut found) = (self.entries(), None);
        while let Some(target) = entries.next()? {
            if entries.word() > word {
                break;
            }
            found = Some(target);
        }
        Ok(found)
    }
}

/// Goes through a node's entries.
pub(crate) struct Entries<'a> {
    level: u16,
    place: u64,
    pointers: &'a [u8],
    rest: &'a [u8],
    word: Vec<u8>,
}

impl Entries<'_> {
    /// The word of the entry that was read last.
    pub(crate) fn word(&self) -> &[u8] {
        &self.word
    }

    /// Reads the next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Target>, Error> {
        let Some((pointer, pointers)) = self.pointers.split_first_chunk::<8>() else {
            return if self.rest.is_empty() { Ok(None) } else { Err(Error::Damaged) };
        };
        let pointer = PointerBits(u64::from_le_bytes(*pointer));
        self.pointers = pointers;
        let shared = usize::try_from(decode(&mut self.rest)?).map_err(|_| Error::Damaged)?;
        let more = decode(&mut self.rest)?;
        let more = take(&mut self.rest, more)?;
        if shared > self.word.len() || !pointer.is_well_formed() {
            return Err(Error::Damaged);
        }
        self.word.truncate(shared);
        self.word.extend_from_slice(more);
        let mut target =
            Target { pointer, place: self.place, bytes: decode(&mut self.rest)?, ..Target::default() };
        self.place += 8;
        if self.level == 0 {
            target.total = decode(&mut self.rest)?;
            target.documents = decode_u32(&mut self.rest)?;
            let checksum = take(&mut self.rest, 4)?;
            target.checksum = u32::from_le_bytes(checksum.try_into().expect("4 bytes were taken"));
        }
        Ok(Some(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn target(seed: u32, nth: usize) -> Target {
        let place = 8 + nth as u64 * 8;
        let pointer = PointerBits::new(u64::from(seed % 7), u64::from(seed) * 3).expect("in range");
        Target {
            pointer,
            place,
            bytes: seed.into(),
            total: u64::from(seed) << 20,
            documents: seed,
            checksum: !seed,
        }
    }

    proptest! {
        #[test]
        fn entries_are_found_as_in_the_model(model: BTreeMap<Vec<u8>, u32>, other: Vec<u8>) {
            let mut writer = NodeWriter::new(0);
            for (word, &seed) in &model {
                writer.push(word, &target(seed, 0));
            }
            let node = Node::parse(writer.finish(), 0).expect("whole");
            for (i, (word, &seed)) in model.iter().enumerate() {
                prop_assert_eq!(node.find(word), Ok(Some(target(seed, i))));
            }
            let nth = model.range(..other.clone()).count();
            prop_assert_eq!(node.find(&other), Ok(model.get(&other).map(|&seed| target(seed, nth))));
            let below = model.range(..=other.clone()).enumerate().last().map(|(i, (_, &seed))| target(seed, i));
            prop_assert_eq!(node.child(&other), Ok(below));
        }

        #[test]
        fn any_bytes_with_a_right_checksum_give_entries_or_an_error(mut bytes: Vec<u8>) {
            bytes.splice(0..0, [0; 8]);
            bytes[6] = 3;
            let checksum = crc32fast::hash(&bytes[4..]);
            bytes[..4].copy_from_slice(&checksum.to_le_bytes());
            if let Ok(node) = Node::parse(bytes, 0) {
                let mut entries = node.entries();
                while let Ok(Some(_)) = entries.next() {}
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut writer = NodeWriter::new(0);
        writer.push(b"one", &target(1, 0));
        writer.push(b"two", &target(2, 1));
        let good = writer.finish();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Node::parse(bad, 0).is_err(), "bit {bit}");
        }
    }
}
