//! Gathers words of new documents in memory, until they become a segment.

use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::pool::{Chain, Pool};
use crate::postings::Writer;
use crate::varint::{decode, decode_u32, encode};

/// A word met so far.
struct Term {
    hash: u64,
    /// Where the word's bytes lie in `Gathered::letters`.
    start: u32,
    len: u32,
    /// Document, plus one, and line of the last occurrence.
    document: u32,
    line: u32,
    /// Occurrences in that document.
    count: u64,
    /// What is to be written: for each document its distance, then distances of lines, 0, and the count.
    chain: Chain,
}

/// The words of the documents so far.
pub(crate) struct Gathered {
    table: HashTable<u32>,
    terms: Vec<Term>,
    letters: Vec<u8>,
    pool: Pool,
    /// The current document, plus one; 0: none yet.
    document: u32,
    /// Words of the current document, counting each occurrence.
    words: u64,
}

/// Multiplies and folds eight bytes at a time, as `wyhash` does. The key is fixed: whoever chooses texts that
/// collide makes their own command slow, and no other.
fn hash(word: &[u8]) -> u64 {
    let mix = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = 0xa076_1d64_78bd_642f ^ word.len() as u64;
    for chunk in word.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        state = mix(state ^ u64::from_le_bytes(bytes), 0x9e37_79b9_7f4a_7c15);
    }
    mix(state, 0xe703_7ed1_a0b4_28db)
}

impl Gathered {
    pub(crate) fn new() -> Self {
        Self {
            table: HashTable::new(),
            terms: Vec::new(),
            letters: Vec::new(),
            pool: Pool::new(),
            document: 0,
            words: 0,
        }
    }

    /// Bytes of memory in use.
    pub(crate) fn bytes(&self) -> usize {
        self.pool.bytes() + self.letters.len() + self.terms.len() * (size_of::<Term>() + 8)
    }

    /// Bytes that postings take, about.
    pub(crate) fn postings_bytes(&self) -> usize {
        self.pool.bytes()
    }

    /// Starts the next document.
    pub(crate) fn next_document(&mut self) {
        self.document += 1;
        self.words = 0;
    }

    /// Words of the current document, counting each occurrence.
    pub(crate) const fn words(&self) -> u64 {
        self.words
    }

    /// Adds a word of the current document. Lines never go back.
    pub(crate) fn add(&mut self, word: &[u8], line: u32) {
        self.words += 1;
        let hash = hash(word);
        let (terms, letters) = (&self.terms, &self.letters);
        let same = |&i: &u32| {
            let term = &terms[i as usize];
            term.hash == hash && letters_of(letters, term) == word
        };
        let index = match self.table.find(hash, same) {
            Some(&index) => index as usize,
            None => self.insert(word, hash),
        };
        let term = &mut self.terms[index];
        if term.document != self.document {
            end_document(term, &mut self.pool);
            let (pool, chain) = (&mut self.pool, &mut term.chain);
            encode(u64::from(self.document - term.document), |b| pool.push(chain, b));
            (term.document, term.line, term.count) = (self.document, 0, 0);
        }
        term.count += 1;
        if term.line != line {
            let (pool, chain) = (&mut self.pool, &mut term.chain);
            encode(u64::from(line - term.line), |b| pool.push(chain, b));
            term.line = line;
        }
    }

    fn insert(&mut self, word: &[u8], hash: u64) -> usize {
        let start = u32::try_from(self.letters.len()).expect("segments end long before 4 GiB");
        let len = u32::try_from(word.len()).expect("segments end long before 4 GiB");
        self.letters.extend_from_slice(word);
        let index = self.terms.len();
        self.terms.push(Term { hash, start, len, document: 0, line: 0, count: 0, chain: Chain::default() });
        let terms = &self.terms;
        self.table.insert_unique(hash, index as u32, |&i| terms[i as usize].hash);
        index
    }

    /// Hands each word to `each`, in byte order, with its postings.
    pub(crate) fn drain<E>(mut self, mut each: impl FnMut(&[u8], &Writer) -> Result<(), E>) -> Result<(), E> {
        let mut order: Vec<(u64, u32)> = self
            .terms
            .iter()
            .zip(0..)
            .map(|(term, i)| (prefix(letters_of(&self.letters, term)), i))
            .collect();
        let word = |i: u32| letters_of(&self.letters, &self.terms[i as usize]);
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| word(a.1).cmp(word(b.1))));
        let (mut raw, mut lines, mut writer) = (Vec::new(), Vec::new(), Writer::default());
        for (_, i) in order {
            let term = &mut self.terms[i as usize];
            end_document(term, &mut self.pool);
            raw.clear();
            self.pool.read(&term.chain, &mut raw);
            writer.clear();
            rewrite(&raw, &mut lines, &mut writer);
            each(letters_of(&self.letters, term), &writer)?;
        }
        Ok(())
    }
}

fn letters_of<'a>(letters: &'a [u8], term: &Term) -> &'a [u8] {
    &letters[term.start as usize..][..term.len as usize]
}

/// The first letters as a number that orders like them.
fn prefix(word: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = word.len().min(8);
    bytes[..len].copy_from_slice(&word[..len]);
    u64::from_be_bytes(bytes)
}

fn end_document(term: &mut Term, pool: &mut Pool) {
    if term.document != 0 {
        pool.push(&mut term.chain, 0);
        encode(term.count, |b| pool.push(&mut term.chain, b));
    }
}

/// From the order in which things become known to the order of postings.
fn rewrite(mut raw: &[u8], lines: &mut Vec<u8>, writer: &mut Writer) {
    const OURS: &str = "written by this module";
    let mut document = 0;
    while !raw.is_empty() {
        document += decode_u32(&mut raw).expect(OURS);
        let all = raw;
        while decode(&mut raw).expect(OURS) != 0 {}
        lines.clear();
        lines.extend_from_slice(&all[..all.len() - raw.len() - 1]);
        writer.push(document - 1, decode(&mut raw).expect(OURS), lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postings::Postings;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    type Model = BTreeMap<Vec<u8>, BTreeMap<u32, (u64, BTreeSet<u32>)>>;

    proptest! {
        #[test]
        fn gathered_words_are_those_of_the_model(
            documents in prop::collection::vec(prop::collection::vec(("[a-c]{1,3}|[a-b]{9,12}", 0u32..4), 0..60), 0..8),
        ) {
            let (mut gathered, mut model) = (Gathered::new(), Model::new());
            for (number, words) in (0..).zip(&documents) {
                gathered.next_document();
                let mut line = 1;
                for (word, step) in words {
                    line += step;
                    gathered.add(word.as_bytes(), line);
                    let entry = model.entry(word.clone().into_bytes()).or_default().entry(number).or_default();
                    entry.0 += 1;
                    entry.1.insert(line);
                }
                prop_assert_eq!(gathered.words(), words.len() as u64);
            }
            let mut got = Vec::new();
            gathered.drain(|word, writer| {
                let postings: Result<Vec<_>, _> = Postings::new(&writer.bytes, documents.len() as u32)
                    .map(|p| p.and_then(|p| Ok((p.document, (p.count, p.lines()?.into_iter().collect())))))
                    .collect();
                let postings: BTreeMap<_, _> = postings?.into_iter().collect();
                got.push((word.to_vec(), postings));
                Ok::<(), twizzler_abi::Error>(())
            }).expect("whole");
            prop_assert_eq!(got, model.into_iter().collect::<Vec<_>>());
        }
    }
}
