//! Where a word stands: for each document its number, the word's occurrences, and the lines.
//!
//! A word's *postings* are one byte string: for each document, ascending, the distance from the document
//! before (the first: its number plus one), the number of occurrences, the bytes of the lines that
//! follow, then the lines, each as the distance from the one before (the first: from line 0). All are
//! [`crate::varint`]s. A reader who doesn't want the lines steps over them.

use alloc::vec::Vec;

use twizzler_abi::Error;

use crate::varint::{decode, decode_u32, encode, take};

/// One document in a word's postings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Posting<'a> {
    /// Number of the document in its segment.
    pub(crate) document: u32,
    /// Occurrences of the word.
    pub(crate) count: u64,
    /// The lines, encoded.
    lines: &'a [u8],
}

/// Reads postings, which may be damaged.
pub(crate) struct Postings<'a> {
    rest: &'a [u8],
    previous: u64,
    documents: u32,
}

impl<'a> Postings<'a> {
    /// Reads `bytes`, of a segment with that many documents.
    pub(crate) const fn new(bytes: &'a [u8], documents: u32) -> Self {
        Self { rest: bytes, previous: 0, documents }
    }

    fn read(&mut self) -> Result<Posting<'a>, Error> {
        let distance = decode(&mut self.rest)?;
        let next = self.previous.checked_add(distance).ok_or(Error::Damaged)?;
        if distance == 0 || next > u64::from(self.documents) {
            return Err(Error::Damaged);
        }
        self.previous = next;
        let count = decode(&mut self.rest)?;
        let lines_bytes = decode(&mut self.rest)?;
        let lines = take(&mut self.rest, lines_bytes)?;
        Ok(Posting { document: (next - 1) as u32, count, lines })
    }
}

impl<'a> Iterator for Postings<'a> {
    type Item = Result<Posting<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

impl<'a> Posting<'a> {
    /// The lines on which the word stands, ascending.
    pub(crate) fn lines(&self) -> Result<Vec<u32>, Error> {
        let mut lines = Vec::new();
        let (mut rest, mut line) = (self.lines, 0u32);
        while !rest.is_empty() {
            let distance = decode_u32(&mut rest)?;
            line = line.checked_add(distance).filter(|_| distance > 0).ok_or(Error::Damaged)?;
            lines.push(line);
        }
        Ok(lines)
    }

    /// The lines as they are encoded.
    pub(crate) const fn encoded_lines(&self) -> &'a [u8] {
        self.lines
    }
}

/// Writes postings.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    previous: u64,
    /// Documents written.
    pub(crate) documents: u32,
    /// Occurrences written.
    pub(crate) total: u64,
}

impl Writer {
    /// Starts anew, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        (self.previous, self.documents, self.total) = (0, 0, 0);
    }

    /// Appends a document; its number is above that of the one before.
    pub(crate) fn push(&mut self, document: u32, count: u64, lines: &[u8]) {
        let next = u64::from(document) + 1;
        let bytes = &mut self.bytes;
        encode(next - self.previous, |b| bytes.push(b));
        encode(count, |b| bytes.push(b));
        encode(lines.len() as u64, |b| bytes.push(b));
        bytes.extend_from_slice(lines);
        self.previous = next;
        self.documents += 1;
        self.total = self.total.saturating_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn postings_round_trip(model: BTreeMap<u16, (u64, Vec<u8>)>) {
            let mut writer = Writer::default();
            for (&document, (count, lines)) in &model {
                writer.push(document.into(), *count >> 1, lines);
            }
            let read: Result<Vec<_>, _> = Postings::new(&writer.bytes, 1 << 16).collect();
            let read = read.expect("whole");
            prop_assert_eq!(read.len(), model.len());
            for (posting, (document, (count, lines))) in read.iter().zip(&model) {
                prop_assert_eq!(posting.document, u32::from(*document));
                prop_assert_eq!((posting.count, posting.lines), (count >> 1, lines.as_slice()));
            }
        }

        #[test]
        fn any_bytes_end_in_a_reading_or_an_error(bytes: Vec<u8>, documents: u32) {
            for posting in Postings::new(&bytes, documents) {
                let Ok(posting) = posting else { break };
                prop_assert!(posting.document < documents);
                let _ = posting.lines();
            }
        }
    }
}
