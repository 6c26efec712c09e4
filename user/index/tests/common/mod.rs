//! Texts in memory, and the naive index that the real one is compared with.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use twizzler_abi::{Error, ObjId};
use twizzler_index::{Index, IndexRoot, Lines, Refusal, Texts};
use twizzler_object::{Access, Backend, Guard, Space};

/// Named texts.
#[derive(Clone, Default, Debug)]
pub(crate) struct Shelf(pub(crate) BTreeMap<String, Vec<u8>>);

impl Shelf {
    pub(crate) fn of(texts: &[(&str, &str)]) -> Self {
        Self(texts.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).collect())
    }

    fn text(&self, id: ObjId) -> &[u8] {
        self.0.values().nth(id.lo as usize - 1).expect("an ID that find gave")
    }
}

impl Texts for Shelf {
    fn find(&self, name: &str) -> Result<ObjId, Refusal> {
        let place = self.0.keys().position(|n| n == name).ok_or(Refusal::NoSuchName)?;
        Ok(ObjId { hi: 7, lo: place as u64 + 1 })
    }

    fn len_bytes(&self, id: ObjId) -> Result<u64, Error> {
        Ok(self.text(id).len() as u64)
    }

    fn read(&self, id: ObjId, at: u64, into: &mut [u8]) -> Result<(), Error> {
        into.copy_from_slice(&self.text(id)[at as usize..][..into.len()]);
        Ok(())
    }
}

/// What the index should know.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Model(pub(crate) BTreeMap<String, String>);

pub(crate) fn words(text: &str) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    for (i, line) in text.split('\n').enumerate() {
        for word in line.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
            all.push((word.chars().flat_map(char::to_lowercase).collect(), i as u32 + 1));
        }
    }
    all
}

impl Model {
    pub(crate) fn search(&self, wanted: &[&str]) -> Vec<(u64, String, Vec<u32>)> {
        let mut hits = Vec::new();
        for (name, text) in &self.0 {
            let all = words(text);
            if wanted.iter().all(|w| all.iter().any(|(word, _)| word == w)) {
                let lines: BTreeSet<u32> =
                    all.iter().filter(|(w, _)| w == wanted[0]).map(|&(_, line)| line).collect();
                let count = all.iter().filter(|(w, _)| w == wanted[0]).count() as u64;
                hits.push((count, name.clone(), lines.into_iter().collect()));
            }
        }
        hits
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (word, _) in self.0.values().flat_map(|text| words(text)) {
            *counts.entry(word).or_default() += 1;
        }
        counts
    }

    pub(crate) fn top(&self, len: usize) -> Vec<(u64, String)> {
        let mut top: Vec<_> = self.counts().into_iter().map(|(word, count)| (count, word)).collect();
        top.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        top.truncate(len);
        top
    }
}

/// Makes an empty index.
pub(crate) fn make<B: Backend>(space: &Space<B>) -> ObjId {
    space
        .transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<IndexRoot>()?.area())))
        .expect("an object can be made")
}

pub(crate) fn open<'g, B: Backend>(guard: &'g Guard<'g, B>, id: ObjId) -> Index<'g, B> {
    Index::new(guard, guard.open(id, Access::Write).expect("the root is there"))
}

pub(crate) fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

pub(crate) fn search<B: Backend>(index: &Index<'_, B>, words: &[&str]) -> Vec<(u64, String, Vec<u32>)> {
    let words: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
    let hits = index.search(&words, Lines::Wanted).expect("whole");
    hits.into_iter().map(|hit| (hit.count, hit.name, hit.lines)).collect()
}

/// Compares everything that can be asked.
pub(crate) fn compare<B: Backend>(index: &Index<'_, B>, model: &Model, vocabulary: &[&str]) {
    for (i, word) in vocabulary.iter().enumerate() {
        assert_eq!(search(index, &[word]), model.search(&[word]), "{word}");
        let pair = [*word, vocabulary[(i * 7 + 1) % vocabulary.len()]];
        assert_eq!(search(index, &pair), model.search(&pair), "{pair:?}");
    }
    for len in [0, 1, 3, 1000] {
        assert_eq!(index.top(len).expect("whole"), model.top(len));
    }
    let stat = index.stat().expect("whole");
    assert_eq!(stat.documents, model.0.len() as u64);
    assert_eq!(stat.words, model.counts().len() as u64);
    assert_eq!(stat.occurrences, model.counts().values().sum::<u64>());
    assert_eq!(stat.text_bytes, model.0.values().map(|text| text.len() as u64).sum::<u64>());
}
