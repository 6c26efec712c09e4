//! The index: what can be asked and changed.

use alloc::collections::BinaryHeap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use twizzler_abi::{Error, ObjId};
use twizzler_object::{Backend, Object, Reader, Space, Tx};

use crate::base::IndexRoot;
use crate::build::SegmentWriter;
use crate::catalog::{Catalog, Listed};
use crate::cursor::Merged;
use crate::gather::Gathered;
use crate::merge::{choose, merge};
use crate::postings::Postings;
use crate::segment::{Document, Found, NAME_BYTES_MAX, Segment};
use crate::words::{NotUtf8, Words};

/// Memory that words of new documents take before they become a segment.
const GATHER_BYTES: usize = 96 << 20;
/// Bytes of a text that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Where texts come from.
pub trait Texts {
    /// The object of that name.
    ///
    /// # Errors
    /// Why there is none that can be read.
    fn find(&self, name: &str) -> Result<ObjId, Refusal>;

    /// Bytes of the text in that object.
    ///
    /// # Errors
    /// The system's own.
    fn len_bytes(&self, id: ObjId) -> Result<u64, Error>;

    /// Copies bytes out, all of which lie within the length.
    ///
    /// # Errors
    /// The system's own.
    fn read(&self, id: ObjId, at: u64, into: &mut [u8]) -> Result<(), Error>;
}

/// Why a command did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The system says no, or the index is damaged.
    System(Error),
    /// One of the documents that were named, by its place among them, and what is wrong with it.
    Document(usize, Refusal),
}

/// What is wrong with a document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The text is not UTF-8.
    NotUtf8(NotUtf8),
    /// The name is longer than [`NAME_BYTES_MAX`].
    NameTooLong,
    /// Nothing has that name.
    NoSuchName,
    /// No name can be like that.
    BadName,
    /// The name is that of a directory, or of an object of a type.
    NotAText,
    /// No document of that name is in the index.
    NotIndexed,
    /// It can't be read.
    System(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}

/// What was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Added {
    /// Documents.
    pub documents: u64,
    /// Of them, those that replaced one of the same name.
    pub replaced: u64,
    /// Words, counting each occurrence.
    pub words: u64,
    /// Bytes of text.
    pub text_bytes: u64,
}

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

/// An index.
pub struct Index<'s, B: Backend> {
    space: &'s Space<B>,
    root: Object<'s, IndexRoot>,
}

/// A catalog with what names it.
struct Current {
    generation: u64,
    id: ObjId,
    catalog: Catalog,
}

impl<'s, B: Backend> Index<'s, B> {
    /// The index of a root object, open for writing: its lock lies in it.
    pub const fn new(space: &'s Space<B>, root: Object<'s, IndexRoot>) -> Self {
        Self { space, root }
    }

    /// The current state. The root is locked meanwhile and afterwards, as long as what is read is used.
    fn current(&self) -> Result<Current, Error> {
        let root = self.space.get(self.root.base());
        let catalog = if root.catalog.is_none() {
            Catalog::default()
        } else {
            Catalog::read(self.space, root.catalog, root.generation)?
        };
        Ok(Current { generation: root.generation, id: root.catalog, catalog })
    }

    fn segments(&self, catalog: &Catalog) -> Result<Vec<Segment<'s, B>>, Error> {
        catalog.segments.iter().map(|listed| listed.open(self.space)).collect()
    }

    /// Adds texts, all or none; each replaces the document of its name. When the call returns, all is durable.
    ///
    /// # Errors
    /// Nothing was changed then.
    pub fn add(&self, names: &[String], texts: &impl Texts) -> Result<Added, Failure> {
        let added = self.space.transact(|tx| self.add_in(tx, names, texts))?;
        self.tidy();
        Ok(added)
    }

    /// The same as part of a transaction, which may have made the index. [`Index::tidy`] is to be called when it has committed.
    ///
    /// # Errors
    /// As [`Index::add`]; the transaction is to be given up then.
    pub fn add_in(&self, tx: &mut Tx<'s, B>, names: &[String], texts: &impl Texts) -> Result<Added, Failure> {
        let refused = |i| move |refusal| Failure::Document(i, refusal);
        let mut sources = Vec::new();
        for (i, name) in names.iter().enumerate() {
            if name.len() > NAME_BYTES_MAX {
                return Err(Failure::Document(i, Refusal::NameTooLong));
            }
            sources.push(texts.find(name).map_err(refused(i))?);
        }
        tx.lock(self.root.area())?;
        let mut batch = Batch::new();
        let mut added = Added::default();
        for (i, (name, &source)) in names.iter().zip(&sources).enumerate() {
            if names[..i].contains(name) {
                continue;
            }
            let document = read_text(&mut batch.gathered, name, source, texts);
            let document = document.map_err(refused(i))?;
            added.documents += 1;
            added.words += document.words;
            added.text_bytes += document.bytes;
            batch.push(tx, document)?;
        }
        batch.flush(tx)?;
        let fresh = batch.listed;
        let old = self.current()?;
        let mut catalog = old.catalog.clone();
        for (segment, listed) in self.segments(&catalog)?.iter().zip(&mut catalog.segments) {
            for name in names {
                added.replaced += u64::from(kill(segment, listed, name)?);
            }
        }
        catalog.segments.extend(fresh);
        self.publish(tx, &old, catalog)?;
        Ok(added)
    }

    /// Removes a document. When the call returns, that is durable.
    ///
    /// # Errors
    /// Nothing was changed then.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        self.space.transact(|tx| {
            tx.lock(self.root.area())?;
            let old = self.current()?;
            let mut catalog = old.catalog.clone();
            let mut removed = false;
            for (segment, listed) in self.segments(&catalog)?.iter().zip(&mut catalog.segments) {
                removed |= kill(segment, listed, name)?;
            }
            if !removed {
                return Err(Failure::Document(0, Refusal::NotIndexed));
            }
            Ok(self.publish(tx, &old, catalog)?)
        })?;
        self.tidy();
        Ok(())
    }

    /// Publishes a catalog without segments that are wholly dead.
    fn publish(&self, tx: &mut Tx<'s, B>, old: &Current, mut catalog: Catalog) -> Result<(), Error> {
        catalog.segments.retain(|s| s.dead.count < s.documents);
        for listed in &old.catalog.segments {
            if !catalog.segments.iter().any(|s| s.id == listed.id) {
                for id in listed.open(self.space)?.objects()? {
                    tx.delete(id)?;
                }
            }
        }
        let generation = old.generation.checked_add(1).ok_or(Error::Damaged)?;
        let id = catalog.write(self.space, tx, generation)?;
        tx.set(self.root.base(), IndexRoot { generation, catalog: id })?;
        if !old.id.is_none() {
            tx.delete(old.id)?;
        }
        Ok(())
    }

    /// Merges segments while there are too many. That is for speed alone: what can't be done now, for want of space or
    /// because a segment is damaged, is left for later, and the command that was asked for stands.
    pub fn tidy(&self) {
        while let Ok(true) = self.space.transact(|tx| self.merge_once(tx)) {}
    }

    fn merge_once(&self, tx: &mut Tx<'s, B>) -> Result<bool, Error> {
        tx.lock(self.root.area())?;
        let old = self.current()?;
        let chosen = choose(&old.catalog.segments);
        if chosen.is_empty() {
            return Ok(false);
        }
        let segments = self.segments(&old.catalog)?;
        let parts: Vec<_> = chosen.iter().map(|&i| (&segments[i], &old.catalog.segments[i].dead)).collect();
        let (object, header) = merge(tx, &parts)?;
        let mut catalog = old.catalog.clone();
        let parts: Vec<ObjId> = chosen.iter().map(|&i| catalog.segments[i].id).collect();
        catalog.segments.retain(|s| !parts.contains(&s.id));
        catalog.segments.push(Listed::new(self.space.id_of(object.area()), &header));
        self.publish(tx, &old, catalog)?;
        Ok(true)
    }

    /// The documents that have all the words, by name. The words are as [`crate::normalise`] gives them.
    ///
    /// # Errors
    /// [`Error::Damaged`], and the system's own.
    pub fn search(&self, words: &[Vec<u8>], lines: Lines) -> Result<Vec<Hit>, Error> {
        let _locked = self.space.lock(self.root.area())?;
        let mut hits = Vec::new();
        let catalog = self.current()?.catalog;
        'segments: for listed in &catalog.segments {
            let segment = listed.open(self.space)?;
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
        let _locked = self.space.lock(self.root.area())?;
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
        let _locked = self.space.lock(self.root.area())?;
        let current = self.current()?;
        let listed = &current.catalog.segments;
        let segments = self.segments(&current.catalog)?;
        let mut stat = Stat { objects: 1 + u64::from(!current.id.is_none()), ..Stat::default() };
        for (segment, listed) in segments.iter().zip(listed) {
            stat.documents += u64::from(listed.documents.saturating_sub(listed.dead.count));
            stat.dead += u64::from(listed.dead.count);
            stat.occurrences = stat.occurrences.saturating_add(listed.occurrences);
            stat.text_bytes = stat.text_bytes.saturating_add(listed.text_bytes);
            stat.segments += 1;
            stat.objects += 1 + u64::from(listed.postings_objects);
            stat.bytes = stat.bytes.saturating_add(listed.bytes);
            for number in (0..listed.documents).filter(|&n| listed.dead.has(n)) {
                let document = segment.document(number)?;
                stat.occurrences = stat.occurrences.saturating_sub(document.words);
                stat.text_bytes = stat.text_bytes.saturating_sub(document.bytes);
            }
        }
        if let ([one], 0) = (listed.as_slice(), stat.dead) {
            stat.words = one.words;
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

/// Marks the document of that name dead, if the segment has it alive.
fn kill<B: Backend>(segment: &Segment<'_, B>, listed: &mut Listed, name: &str) -> Result<bool, Error> {
    let found = segment.find_document(name)?.filter(|&number| !listed.dead.has(number));
    if let Some(number) = found {
        listed.dead.add(number, listed.documents);
    }
    Ok(found.is_some())
}

/// New documents on their way into segments.
struct Batch {
    gathered: Gathered,
    documents: Vec<Document>,
    listed: Vec<Listed>,
}

impl Batch {
    fn new() -> Self {
        Self { gathered: Gathered::new(), documents: Vec::new(), listed: Vec::new() }
    }

    fn push<B: Backend>(&mut self, tx: &mut Tx<'_, B>, document: Document) -> Result<(), Error> {
        self.documents.push(document);
        if self.gathered.bytes() > GATHER_BYTES { self.flush(tx) } else { Ok(()) }
    }

    /// Makes a segment of what was gathered.
    fn flush<B: Backend>(&mut self, tx: &mut Tx<'_, B>) -> Result<(), Error> {
        if self.documents.is_empty() {
            return Ok(());
        }
        let gathered = core::mem::replace(&mut self.gathered, Gathered::new());
        let mut writer = SegmentWriter::new(tx, &self.documents, gathered.postings_bytes())?;
        gathered.drain(|word, postings| writer.add(tx, word, postings))?;
        let (object, header) = writer.finish(tx)?;
        self.listed.push(Listed::new(tx.space().id_of(object.area()), &header));
        self.documents.clear();
        Ok(())
    }
}

fn read_text(
    gathered: &mut Gathered,
    name: &str,
    source: ObjId,
    texts: &impl Texts,
) -> Result<Document, Refusal> {
    let bytes = texts.len_bytes(source).map_err(Refusal::System)?;
    gathered.next_document();
    let mut words = Words::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(PIECE_BYTES as u64);
        let piece = &mut piece[..len as usize];
        texts.read(source, at, piece).map_err(Refusal::System)?;
        words.feed(piece, |word, line| gathered.add(word, line)).map_err(Refusal::NotUtf8)?;
        at += len;
    }
    words.finish(|word, line| gathered.add(word, line)).map_err(Refusal::NotUtf8)?;
    Ok(Document { name: name.to_string(), source, bytes, words: gathered.words() })
}

/// Occurrences of a word in the living documents of a segment.
fn occurrences<B: Backend>(segment: &Segment<'_, B>, listed: &Listed, entry: &Found) -> Result<u64, Error> {
    if listed.dead.count == 0 {
        return Ok(entry.target.total);
    }
    let bytes = segment.postings(entry)?;
    let living =
        Postings::new(&bytes, listed.documents).filter(|p| !p.is_ok_and(|p| listed.dead.has(p.document)));
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
    let mut postings: Vec<_> = Postings::new(&bytes, listed.documents).collect::<Result<_, _>>()?;
    postings.retain(|p| !listed.dead.has(p.document));
    for entry in others {
        let bytes = segment.postings(entry)?;
        let have: Vec<u32> = Postings::new(&bytes, listed.documents)
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
