//! Segments: immutable parts of an index, each with some documents and all their words.
//!
//! A segment is one *segment object*, and objects with postings that its pointers point to; a small
//! segment has its postings in the segment object itself. From the base of the segment object:
//! [`SegmentBase`] with the [`Header`], document records in the order of their numbers, each followed by its name, one pointer for each
//! document to its record, the documents in the order of their names, then dictionary nodes
//! ([`crate::node`]) and perhaps postings ([`crate::postings`]).

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use twizzler_abi::pointer::PointerBits;
use twizzler_abi::{Error, ObjId};

use twizzler_object::{Access, Backend, Guard, InvPtr, Object, Ptr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::base::{PostingsBase, SegmentBase, read_vec};
use crate::node::{Node, Target};
use crate::record::{RecordReader, RecordWriter};

/// Longest name of a document.
pub const NAME_BYTES_MAX: usize = 4096;
/// Levels that a dictionary has at most.
const LEVELS_MAX: u32 = 16;

/// What a segment begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Header {
    /// Documents, dead ones included.
    pub(crate) documents: u32,
    /// Levels of the dictionary.
    pub(crate) levels: u32,
    /// Different words.
    pub(crate) words: u64,
    /// Words, counting each occurrence.
    pub(crate) occurrences: u64,
    /// Bytes of the documents' texts.
    pub(crate) text_bytes: u64,
    /// Bytes of the segment in all its objects.
    pub(crate) bytes: u64,
    /// Objects with postings.
    pub(crate) postings_objects: u32,
    /// Bytes of the root node.
    pub(crate) root_bytes: u32,
    /// The root node.
    pub(crate) root: PointerBits,
    /// The pointers to document records.
    pub(crate) records: PointerBits,
    /// The documents ordered by name: for each place, the place, a number and a checksum.
    pub(crate) order: PointerBits,
}

/// Bytes of a [`Header`] and its checksum.
pub(crate) const HEADER_BYTES: usize = size_of::<Header>() + 4;
const _: () = assert!(HEADER_BYTES == 76);

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        RecordWriter::new().value(self).sealed()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let header: Self = RecordReader::new(bytes)?.value()?;
        let local = [header.root, header.records, header.order];
        let local = local.iter().all(|p| p.is_well_formed() && p.index() == 0);
        if header.levels == 0 || header.levels > LEVELS_MAX || !local {
            return Err(Error::Damaged);
        }
        Ok(header)
    }
}

/// A text that was added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// The name by which it was added.
    pub name: String,
    /// The object that it was in.
    pub source: ObjId,
    /// Bytes of the text.
    pub bytes: u64,
    /// Its words, counting each occurrence.
    pub words: u64,
}

/// Bytes of an entry of the order: place, number, and their checksum.
const ORDER_BYTES: u64 = 12;
/// Bytes of a document's record before its name.
const RECORD_BYTES: u64 = 40;

impl Document {
    /// The record of the document of that number: the name's length, the number, the fields, the name, and the checksum.
    pub(crate) fn encode(&self, number: u32) -> Vec<u8> {
        let name = self.name.as_bytes();
        RecordWriter::new()
            .u32(name.len() as u32)
            .u32(number)
            .id(self.source)
            .u64(self.bytes)
            .u64(self.words)
            .bytes(name)
            .sealed()
    }

    fn decode(bytes: &[u8], number: u32) -> Result<Self, Error> {
        let mut r = RecordReader::new(bytes)?;
        let name_bytes = r.u32()?;
        if r.u32()? != number {
            return Err(Error::Damaged);
        }
        let (source, bytes, words) = (r.id()?, r.u64()?, r.u64()?);
        let name = String::from_utf8(r.bytes(name_bytes as usize)?.to_vec()).map_err(|_| Error::Damaged)?;
        Ok(Self { name, source, bytes, words })
    }
}

/// An open segment.
pub(crate) struct Segment<'s, B: Backend> {
    guard: &'s Guard<'s, B>,
    base: Object<'s, SegmentBase>,
    pub(crate) header: Header,
}

/// A node of the dictionary, and where it lies.
pub(crate) struct NodeAt {
    pub(crate) node: Node<Vec<u8>>,
    at: u64,
}

impl<'s, B: Backend> Segment<'s, B> {
    /// Opens the segment; reads its header and nothing else.
    pub(crate) fn open(guard: &'s Guard<'s, B>, id: ObjId) -> Result<Self, Error> {
        let base = guard.open::<SegmentBase>(id, Access::Read)?;
        let header = guard.get(base.base().at(SegmentBase::header));
        Ok(Self { guard, base, header: Header::decode(&header[..HEADER_BYTES])? })
    }

    /// The pointers' target, for a catalog to list.
    pub(crate) fn base(&self) -> Ptr<'s, SegmentBase> {
        self.base.base()
    }

    /// All its objects.
    pub(crate) fn objects(&self) -> Result<Vec<ObjId>, Error> {
        let mut ids = vec![self.guard.id_of(self.base.area())];
        let mut next = self.guard.follow(self.base().at(SegmentBase::postings))?;
        while let Some(postings) = next {
            if ids.len() > self.header.postings_objects as usize {
                return Err(Error::Damaged);
            }
            ids.push(self.guard.id_of(postings.object()));
            next = self.guard.follow(postings.at(PostingsBase::previous))?;
        }
        Ok(ids)
    }

    fn local(&self, pointer: PointerBits, skip: u64, bytes: u64) -> Result<Vec<u8>, Error> {
        read_vec(self.guard, self.base.area(), pointer.offset().saturating_add(skip), bytes)
    }

    /// Reads a node of the dictionary.
    pub(crate) fn node(&self, pointer: PointerBits, bytes: u64, level: u32) -> Result<NodeAt, Error> {
        if pointer.index() != 0 {
            return Err(Error::Damaged);
        }
        Ok(NodeAt { node: Node::parse(self.local(pointer, 0, bytes)?, level as u16)?, at: pointer.offset() })
    }

    /// Reads the dictionary's root.
    pub(crate) fn root(&self) -> Result<NodeAt, Error> {
        self.node(self.header.root, self.header.root_bytes.into(), self.header.levels - 1)
    }

    /// Looks a word up: one node for each level is read.
    pub(crate) fn find(&self, word: &[u8]) -> Result<Option<Found>, Error> {
        let mut at = self.root()?;
        for level in (0..self.header.levels - 1).rev() {
            let Some(child) = at.node.child(word)? else { return Ok(None) };
            at = self.node(child.pointer, child.bytes, level)?;
        }
        Ok(at.node.find(word)?.map(|target| at.found(target)))
    }

    /// Reads postings: follows the pointer from its place in the dictionary into the object that has them.
    pub(crate) fn postings(&self, found: &Found) -> Result<Vec<u8>, Error> {
        let place = self.base.area().place::<InvPtr<u8>>(found.place).ok_or(Error::Damaged)?;
        let first = self.guard.follow(place)?.ok_or(Error::Damaged)?;
        let bytes = read_vec(self.guard, first.object(), first.offset(), found.target.bytes)?;
        if crc32fast::hash(&bytes) != found.target.checksum { Err(Error::Damaged) } else { Ok(bytes) }
    }

    /// Reads what is known of a document.
    pub(crate) fn document(&self, number: u32) -> Result<Document, Error> {
        if number >= self.header.documents {
            return Err(Error::Damaged);
        }
        let place = self.local(self.header.records, u64::from(number) * 8, 8)?;
        let place = PointerBits(u64::from_le_bytes(place.try_into().expect("8 bytes were read")));
        if !place.is_well_formed() || place.index() != 0 {
            return Err(Error::Damaged);
        }
        let len = self.local(place, 0, 4)?;
        let len = u32::from_le_bytes(len.try_into().expect("4 bytes were read"));
        if len as usize > NAME_BYTES_MAX {
            return Err(Error::Damaged);
        }
        Document::decode(&self.local(place, 0, RECORD_BYTES + u64::from(len) + 4)?, number)
    }

    /// The number of the document of that name.
    pub(crate) fn find_document(&self, name: &str) -> Result<Option<u32>, Error> {
        let (mut low, mut high) = (0, self.header.documents);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.local(self.header.order, u64::from(middle) * ORDER_BYTES, ORDER_BYTES)?;
            let mut entry = RecordReader::new(&entry)?;
            if entry.u32()? != middle {
                return Err(Error::Damaged);
            }
            let number = entry.u32()?;
            match self.document(number)?.name.as_str().cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Some(number)),
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}

/// An entry of the dictionary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) target: Target,
    /// Offset of its pointer in the segment object.
    place: u64,
}

impl NodeAt {
    /// One of the node's entries.
    pub(crate) const fn found(&self, target: Target) -> Found {
        Found { target, place: self.at.saturating_add(target.place) }
    }
}
