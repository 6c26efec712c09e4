//! The index, and what changes it.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use twizzler_abi::{Error, ObjId};
use twizzler_object::{Backend, Guard, Object, Tx};

use crate::base::IndexRoot;
use crate::build::SegmentWriter;
use crate::catalog::{Catalog, Listed};
use crate::gather::Gathered;
use crate::merge::{choose, merge};
use crate::segment::{Document, NAME_BYTES_MAX, Segment};
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
    /// The name is that of a directory.
    ADirectory,
    /// The name is that of an object of a type.
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

/// An index.
pub struct Index<'s, B: Backend> {
    pub(crate) guard: &'s Guard<'s, B>,
    pub(crate) root: Object<'s, IndexRoot>,
}

/// A catalog with what names it.
pub(crate) struct Current {
    generation: u64,
    pub(crate) id: ObjId,
    pub(crate) catalog: Catalog,
}

impl<'s, B: Backend> Index<'s, B> {
    /// The index of a root object, open for writing: its lock lies in it.
    pub const fn new(guard: &'s Guard<'s, B>, root: Object<'s, IndexRoot>) -> Self {
        Self { guard, root }
    }

    /// The current state. The root is locked meanwhile and afterwards, as long as what is read is used.
    pub(crate) fn current(&self) -> Result<Current, Error> {
        let root = self.guard.get(self.root.base());
        let catalog = if root.catalog.is_none() {
            Catalog::default()
        } else {
            Catalog::read(self.guard, root.catalog, root.generation)?
        };
        Ok(Current { generation: root.generation, id: root.catalog, catalog })
    }

    pub(crate) fn segments(&self, catalog: &Catalog) -> Result<Vec<Segment<'s, B>>, Error> {
        catalog.segments.iter().map(|listed| listed.open(self.guard)).collect()
    }

    /// Adds texts, all or none; each replaces the document of its name. When the call returns, all is durable.
    ///
    /// # Errors
    /// Nothing was changed then.
    pub fn add(&self, names: &[String], texts: &impl Texts) -> Result<Added, Failure> {
        let added = self.guard.transact(|tx| self.add_in(tx, names, texts))?;
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
        self.guard.transact(|tx| {
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

    /// Deletes all objects of the index but the root, as part of a transaction that deletes that. Gives how many.
    ///
    /// # Errors
    /// [`Error::Damaged`], and the system's own; the transaction is to be given up then.
    pub fn delete_in(&self, tx: &mut Tx<'s, B>) -> Result<u64, Error> {
        tx.lock(self.root.area())?;
        let current = self.current()?;
        let mut objects = Vec::new();
        for segment in self.segments(&current.catalog)? {
            objects.extend(segment.objects()?);
        }
        if !current.id.is_none() {
            objects.push(current.id);
        }
        objects.iter().try_for_each(|&id| tx.delete(id))?;
        Ok(objects.len() as u64)
    }

    /// Publishes a catalog without segments that are wholly dead.
    fn publish(&self, tx: &mut Tx<'s, B>, old: &Current, mut catalog: Catalog) -> Result<(), Error> {
        catalog.segments.retain(|s| s.dead.count < s.numbers.documents);
        for listed in &old.catalog.segments {
            if !catalog.segments.iter().any(|s| s.id == listed.id) {
                for id in listed.open(self.guard)?.objects()? {
                    tx.delete(id)?;
                }
            }
        }
        let generation = old.generation.checked_add(1).ok_or(Error::Damaged)?;
        let id = catalog.write(tx, generation)?;
        tx.set(self.root.base(), IndexRoot { generation, catalog: id })?;
        if !old.id.is_none() {
            tx.delete(old.id)?;
        }
        Ok(())
    }

    /// Merges segments while there are too many. That is for speed alone: what can't be done now, for want of space or
    /// because a segment is damaged, is left for later, and the command that was asked for stands.
    pub fn tidy(&self) {
        while let Ok(true) = self.guard.transact(|tx| self.merge_once(tx)) {}
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
        catalog.segments.push(Listed::new(self.guard.id_of(object.area()), &header));
        self.publish(tx, &old, catalog)?;
        Ok(true)
    }
}

/// Marks the document of that name dead, if the segment has it alive.
fn kill<B: Backend>(segment: &Segment<'_, B>, listed: &mut Listed, name: &str) -> Result<bool, Error> {
    let found = segment.find_document(name)?.filter(|&number| !listed.dead.has(number));
    if let Some(number) = found {
        listed.dead.add(number, listed.numbers.documents);
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
        self.listed.push(Listed::new(tx.guard().id_of(object.area()), &header));
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
