//! What can be asked of an index.

use alloc::collections::BinaryHeap;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use twizzler_abi::Error;
use twizzler_object::Backend;

use crate::catalog::Listed;
use crate::cursor::Merged;
use crate::index::Index;
use crate::postings::Postings;
use crate::segment::{Found, Segment};

/// A document that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Its name.
    pub name: String,
    /// Occurrences of the first word.
    pub count: u64,
    /// Lines with the first word, if they were asked for.
    pub lines: Vec<u32>,
}

/// Whether a search reads the line numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lines {
    /// It does.
    Wanted,
    /// It doesn't.
    Unwanted,
}

/// The index in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stat {
    /// Documents.
    pub documents: u64,
    /// Documents that were removed or replaced and still take space.
    pub dead: u64,
    /// Different words of living documents.
    pub words: u64,
    /// Words of living documents, counting each occurrence.
    pub occurrences: u64,
    /// Bytes of living documents.
    pub text_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Objects, root and catalog included.
    pub objects: u64,
    /// Bytes of the segments.
    pub bytes: u64,
}

impl<B: Backend> Index<'_, B> {
    /// The documents that have all the words, by name. The words are as [`crate::normalise`] gives them.
    ///
    /// # Errors
    /// [`Error::Damaged`], and the system's own.
    pub fn search(&self, words: &[Vec<u8>], lines: Lines) -> Result<Vec<Hit>, Error> {
        let _locked = self.guard.lock(self.root.area())?;
        let mut hits = Vec::new();
        let catalog = self.current()?.catalog;
        'segments: for listed in &catalog.segments {
            let segment = listed.open(self.guard)?;
            let mut found = Vec::new();
            for word in words {
                let Some(entry) = segment.find(word)? else { continue 'segments };
                found.push(entry);
            }
            search_segment(&segment, listed, &found, lines, &mut hits)?;
        }
        hits.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(hits)
    }

    /// The most frequent words with their occurrences, most frequent first, then by word. Reads the whole dictionary,
    /// and the postings of segments with dead documents.
    ///
    /// # Errors
    /// [`Error::Damaged`], and the system's own.
    pub fn top(&self, len: usize) -> Result<Vec<(u64, String)>, Error> {
        let _locked = self.guard.lock(self.root.area())?;
        let catalog = self.current()?.catalog;
        let segments = self.segments(&catalog)?;
        let mut words = Merged::new(segments.iter())?;
        // The least of those kept is on top of the heap: least occurrences, then last word.
        let mut kept: BinaryHeap<(Reverse<u64>, Vec<u8>)> = BinaryHeap::new();
        let mut found = Vec::new();
        while let Some(word) = words.next(&mut found)? {
            let mut total = 0u64;
            for (i, entry) in &found {
                total = total.saturating_add(occurrences(&segments[*i], &catalog.segments[*i], entry)?);
            }
            let full = kept.len() >= len;
            if total == 0 || full && kept.peek().is_none_or(|(least, _)| least.0 >= total) {
                continue;
            }
            if full {
                kept.pop();
            }
            kept.push((Reverse(total), word));
        }
        let text = |word: Vec<u8>| String::from_utf8(word).map_err(|_| Error::Damaged);
        kept.into_sorted_vec().into_iter().map(|(total, word)| Ok((total.0, text(word)?))).collect()
    }

    /// The index in numbers. Reads the whole dictionary where there are several segments, and postings where there are dead documents.
    ///
    /// # Errors
    /// [`Error::Damaged`], and the system's own.
    pub fn stat(&self) -> Result<Stat, Error> {
        let _locked = self.guard.lock(self.root.area())?;
        let current = self.current()?;
        let listed = &current.catalog.segments;
        let segments = self.segments(&current.catalog)?;
        let mut stat = Stat { objects: 1 + u64::from(!current.id.is_none()), ..Stat::default() };
        for (segment, listed) in segments.iter().zip(listed) {
            stat.documents += u64::from(listed.numbers.documents.saturating_sub(listed.dead.count));
            stat.dead += u64::from(listed.dead.count);
            stat.occurrences = stat.occurrences.saturating_add(listed.numbers.occurrences);
            stat.text_bytes = stat.text_bytes.saturating_add(listed.numbers.text_bytes);
            stat.segments += 1;
            stat.objects += 1 + u64::from(listed.numbers.postings_objects);
            stat.bytes = stat.bytes.saturating_add(listed.numbers.bytes);
            for number in (0..listed.numbers.documents).filter(|&n| listed.dead.has(n)) {
                let document = segment.document(number)?;
                stat.occurrences = stat.occurrences.saturating_sub(document.words);
                stat.text_bytes = stat.text_bytes.saturating_sub(document.bytes);
            }
        }
        if let ([one], 0) = (listed.as_slice(), stat.dead) {
            stat.words = one.numbers.words;
            return Ok(stat);
        }
        let (mut words, mut found) = (Merged::new(segments.iter())?, Vec::new());
        while words.next(&mut found)?.is_some() {
            let lives =
                |(i, entry): &(usize, Found)| occurrences(&segments[*i], &listed[*i], entry).map(|n| n > 0);
            let mut living = false;
            for entry in &found {
                living = living || lives(entry)?;
            }
            stat.words += u64::from(living);
        }
        Ok(stat)
    }
}

/// Occurrences of a word in the living documents of a segment.
fn occurrences<B: Backend>(segment: &Segment<'_, B>, listed: &Listed, entry: &Found) -> Result<u64, Error> {
    if listed.dead.count == 0 {
        return Ok(entry.target.total);
    }
    let bytes = segment.postings(entry)?;
    let living = Postings::new(&bytes, listed.numbers.documents)
        .filter(|p| !p.is_ok_and(|p| listed.dead.has(p.document)));
    living.map(|p| p.map(|p| p.count)).try_fold(0u64, |sum, count| Ok(sum.saturating_add(count?)))
}

fn search_segment<B: Backend>(
    segment: &Segment<'_, B>,
    listed: &Listed,
    found: &[Found],
    lines: Lines,
    hits: &mut Vec<Hit>,
) -> Result<(), Error> {
    let Some((first, others)) = found.split_first() else { return Ok(()) };
    let bytes = segment.postings(first)?;
    let mut postings: Vec<_> = Postings::new(&bytes, listed.numbers.documents).collect::<Result<_, _>>()?;
    postings.retain(|p| !listed.dead.has(p.document));
    for entry in others {
        let bytes = segment.postings(entry)?;
        let have: Vec<u32> = Postings::new(&bytes, listed.numbers.documents)
            .map(|p| p.map(|p| p.document))
            .collect::<Result<_, _>>()?;
        postings.retain(|p| have.binary_search(&p.document).is_ok());
    }
    for posting in postings {
        let lines = if lines == Lines::Wanted { posting.lines()? } else { Vec::new() };
        hits.push(Hit { name: segment.document(posting.document)?.name, count: posting.count, lines });
    }
    Ok(())
}
