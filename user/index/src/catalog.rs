//! The catalog: an immutable object that says which segments an index has, and which of their documents are dead.
//!
//! Every command that changes the index writes a new catalog and publishes it in the root. After its base with
//! the pointers to the segments comes one record: generation, number of segments, what is known of each, for each
//! that has dead documents a bitmap, and a CRC-32.

use alloc::vec;
use alloc::vec::Vec;

use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_object::{Access, Backend, Guard, Tx};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::append::Appender;
use crate::base::{CatalogBase, SEGMENTS_MAX, SegmentBase, read_vec};
use crate::record::{RecordReader, RecordWriter};
use crate::segment::{Header, Segment};

/// A segment as the catalog knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) id: ObjId,
    pub(crate) numbers: Numbers,
    pub(crate) dead: Dead,
}

/// What the catalog repeats of a segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Numbers {
    pub(crate) documents: u32,
    pub(crate) postings_objects: u32,
    pub(crate) words: u64,
    pub(crate) occurrences: u64,
    pub(crate) text_bytes: u64,
    pub(crate) bytes: u64,
}

impl Listed {
    pub(crate) fn new(id: ObjId, header: &Header) -> Self {
        Self { id, numbers: Numbers::of(header), dead: Dead::default() }
    }
}

impl Numbers {
    const fn of(header: &Header) -> Self {
        Self {
            documents: header.documents,
            postings_objects: header.postings_objects,
            words: header.words,
            occurrences: header.occurrences,
            text_bytes: header.text_bytes,
            bytes: header.bytes,
        }
    }
}

impl Listed {
    /// Opens the segment, which must be the one that was listed.
    pub(crate) fn open<'s, B: Backend>(&self, guard: &'s Guard<'s, B>) -> Result<Segment<'s, B>, Error> {
        let segment = Segment::open(guard, self.id)?;
        let found = Numbers::of(&segment.header);
        if found.as_bytes() == self.numbers.as_bytes() { Ok(segment) } else { Err(Error::Damaged) }
    }
}

/// Documents of a segment that were removed or replaced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Dead {
    bits: Vec<u8>,
    pub(crate) count: u32,
}

impl Dead {
    pub(crate) fn has(&self, document: u32) -> bool {
        self.bits.get(document as usize / 8).is_some_and(|byte| byte >> (document % 8) & 1 == 1)
    }

    /// Marks a document of a segment that has `documents`.
    pub(crate) fn add(&mut self, document: u32, documents: u32) {
        self.bits.resize(bitmap_bytes(documents), 0);
        if !self.has(document) {
            self.bits[document as usize / 8] |= 1 << (document % 8);
            self.count += 1;
        }
    }
}

fn bitmap_bytes(documents: u32) -> usize {
    documents.div_ceil(8) as usize
}

/// The catalog in memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) segments: Vec<Listed>,
}

impl Catalog {
    /// Writes the catalog of that generation; gives the new object's ID.
    pub(crate) fn write<B: Backend>(&self, tx: &mut Tx<'_, B>, generation: u64) -> Result<ObjId, Error> {
        let mut record = RecordWriter::new().u64(generation).u32(self.segments.len() as u32);
        for s in &self.segments {
            record = record.value(&s.numbers).u32(s.dead.count);
        }
        for s in self.segments.iter().filter(|s| s.dead.count > 0) {
            record = record.bytes(&s.dead.bits);
        }
        let record = record.sealed();
        let object = tx.create::<CatalogBase>()?;
        let base = object.base();
        for (i, listed) in self.segments.iter().enumerate() {
            let place = base.at(CatalogBase::segments).index(i).ok_or(Error::TooMany)?;
            // Through the transaction, which may have made the segment.
            let segment = tx.open::<SegmentBase>(listed.id, Access::Read)?;
            tx.link(place, Some(segment.base()))?;
        }
        tx.set(base.at(CatalogBase::bytes), record.len() as u64)?;
        let mut out = Appender::new(object.area(), size_of::<CatalogBase>() as u64);
        out.append(tx, &record)?;
        out.finish(tx)?;
        Ok(tx.guard().id_of(object.area()))
    }

    /// Reads the catalog of that generation.
    pub(crate) fn read<B: Backend>(guard: &Guard<'_, B>, id: ObjId, generation: u64) -> Result<Self, Error> {
        let object = guard.open::<CatalogBase>(id, Access::Read)?;
        let bytes = guard.get(object.base().at(CatalogBase::bytes));
        let record = read_vec(guard, object.area(), BASE_OFFSET + size_of::<CatalogBase>() as u64, bytes)?;
        let mut r = RecordReader::new(&record)?;
        let (written, count) = (r.u64()?, r.u32()? as usize);
        if written != generation || count > SEGMENTS_MAX {
            return Err(Error::Damaged);
        }
        let mut segments = Vec::new();
        for i in 0..count {
            let place = object.base().at(CatalogBase::segments).index(i).ok_or(Error::Damaged)?;
            let segment = guard.follow(place)?.ok_or(Error::Damaged)?;
            segments.push(Listed {
                id: guard.id_of(segment.object()),
                numbers: r.value()?,
                dead: Dead { bits: vec![], count: r.u32()? },
            });
        }
        for s in segments.iter_mut().filter(|s| s.dead.count > 0) {
            s.dead.bits = r.bytes(bitmap_bytes(s.numbers.documents))?.to_vec();
        }
        Ok(Self { segments })
    }
}
