//! Writes a segment.

use alloc::vec;
use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_abi::pointer::PointerBits;
use twizzler_object::{Backend, Object, Reader, Tx};

use crate::append::Appender;
use crate::base::{PostingsBase, SegmentBase};
use crate::node::{NodeWriter, Target, shared_prefix};
use crate::postings::Writer;
use crate::record::RecordWriter;
use crate::segment::{Document, HEADER_BYTES, Header};

/// Postings of up to this many bytes lie in the segment object.
pub(crate) const INLINE_BYTES: usize = 64 << 10;

/// A segment in the making. Words come in byte order.
pub(crate) struct SegmentWriter<'s> {
    object: Object<'s, SegmentBase>,
    out: Appender<'s>,
    /// The last object with postings, and the index that pointers to it have. None: postings lie in `out`.
    postings: Option<(Appender<'s>, u64)>,
    header: Header,
    levels: Vec<Level>,
    /// The last word.
    last: Vec<u8>,
}

/// The last node of a level.
struct Level {
    node: NodeWriter,
    /// Separates the node from the one before.
    first: Vec<u8>,
}

impl<'s> SegmentWriter<'s> {
    /// Begins a segment with these documents; `postings_bytes` is a guess.
    pub(crate) fn new<B: Backend>(
        tx: &mut Tx<'s, B>,
        documents: &[Document],
        postings_bytes: usize,
    ) -> Result<Self, Error> {
        let object = tx.create::<SegmentBase>()?;
        let mut out = Appender::new(object.area(), size_of::<SegmentBase>() as u64);
        let mut records = Vec::with_capacity(documents.len() * 8);
        for (document, number) in documents.iter().zip(0..) {
            let place = PointerBits::new(0, out.append(tx, &document.encode(number))?)?;
            records.extend_from_slice(&place.0.to_le_bytes());
            out.align(tx)?;
        }
        let mut order: Vec<u32> = (0..documents.len() as u32).collect();
        order.sort_unstable_by_key(|&i| &documents[i as usize].name);
        let entry = |(place, number)| RecordWriter::new().u32(place).u32(number).sealed();
        let order: Vec<u8> = (0..).zip(order).flat_map(entry).collect();
        let header = Header {
            documents: u32::try_from(documents.len()).map_err(|_| Error::TooMany)?,
            text_bytes: documents.iter().fold(0, |sum, d| sum.saturating_add(d.bytes)),
            records: PointerBits::new(0, out.append(tx, &records)?)?,
            order: PointerBits::new(0, out.append(tx, &order)?)?,
            ..Header::default()
        };
        let levels = vec![Level { node: NodeWriter::new(0), first: Vec::new() }];
        let mut writer = Self { object, out, postings: None, header, levels, last: Vec::new() };
        if postings_bytes > INLINE_BYTES {
            writer.postings = Some(writer.postings_object(tx)?);
        }
        Ok(writer)
    }

    /// Makes an object for postings. The pointer to it in the segment's base tells the index that the dictionary's pointers take.
    fn postings_object<B: Backend>(&mut self, tx: &mut Tx<'s, B>) -> Result<(Appender<'s>, u64), Error> {
        let object = tx.create::<PostingsBase>()?;
        let place = self.object.base().at(SegmentBase::postings);
        if let Some(previous) = tx.follow(place)? {
            tx.link(object.base().at(PostingsBase::previous), Some(previous))?;
        }
        tx.link(place, Some(object.base()))?;
        let bits = self.object.area().place::<u64>(place.offset()).expect("the same place as a word");
        let index = PointerBits(tx.get(bits)).index();
        self.header.postings_objects += 1;
        Ok((Appender::new(object.area(), size_of::<PostingsBase>() as u64), index))
    }

    fn place<B: Backend>(&mut self, tx: &mut Tx<'s, B>, bytes: &[u8]) -> Result<PointerBits, Error> {
        if self.postings.as_ref().is_some_and(|(postings, _)| !postings.has_room(bytes.len())) {
            let next = self.postings_object(tx)?;
            if let Some((full, _)) = self.postings.replace(next) {
                self.header.bytes += full.finish(tx)?;
            }
        }
        match &mut self.postings {
            None => PointerBits::new(0, self.out.append(tx, bytes)?),
            Some((postings, index)) => PointerBits::new(*index, postings.append(tx, bytes)?),
        }
    }

    /// Adds a word.
    pub(crate) fn add<B: Backend>(
        &mut self,
        tx: &mut Tx<'s, B>,
        word: &[u8],
        postings: &Writer,
    ) -> Result<(), Error> {
        let target = Target {
            pointer: self.place(tx, &postings.bytes)?,
            bytes: postings.bytes.len() as u64,
            total: postings.total,
            documents: postings.documents,
            checksum: crc32fast::hash(&postings.bytes),
            place: 0,
        };
        if self.levels[0].node.is_full() {
            self.end_node(tx, 0)?;
            let separator = shared_prefix(word, &self.last) + 1;
            self.levels[0].first = word[..separator].to_vec();
        }
        self.levels[0].node.push(word, &target);
        self.last.clear();
        self.last.extend_from_slice(word);
        self.header.words += 1;
        self.header.occurrences = self.header.occurrences.saturating_add(postings.total);
        Ok(())
    }

    /// Writes the node of a level and enters it one level above.
    fn end_node<B: Backend>(&mut self, tx: &mut Tx<'s, B>, level: usize) -> Result<(), Error> {
        let (first, target) = self.write_node(tx, level)?;
        if level + 1 == self.levels.len() {
            let node = NodeWriter::new(level as u16 + 1);
            self.levels.push(Level { node, first: Vec::new() });
        } else if self.levels[level + 1].node.is_full() {
            self.end_node(tx, level + 1)?;
            self.levels[level + 1].first.clone_from(&first);
        }
        self.levels[level + 1].node.push(&first, &target);
        Ok(())
    }

    fn write_node<B: Backend>(
        &mut self,
        tx: &mut Tx<'s, B>,
        level: usize,
    ) -> Result<(Vec<u8>, Target), Error> {
        let Level { node, first } = &mut self.levels[level];
        let node = node.finish();
        self.out.align(tx)?;
        let pointer = PointerBits::new(0, self.out.append(tx, &node)?)?;
        let target = Target { pointer, bytes: node.len() as u64, ..Target::default() };
        Ok((core::mem::take(first), target))
    }

    /// Ends the segment.
    pub(crate) fn finish<B: Backend>(
        mut self,
        tx: &mut Tx<'s, B>,
    ) -> Result<(Object<'s, SegmentBase>, Header), Error> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            self.end_node(tx, level)?;
            level += 1;
        }
        let (_, root) = self.write_node(tx, level)?;
        if let Some((postings, _)) = self.postings {
            self.header.bytes += postings.finish(tx)?;
        }
        let header = Header {
            levels: level as u32 + 1,
            root: root.pointer,
            root_bytes: u32::try_from(root.bytes).map_err(|_| Error::TooLong)?,
            bytes: self.header.bytes + self.out.finish(tx)?,
            ..self.header
        };
        let mut encoded = [0; 120];
        encoded[..HEADER_BYTES].copy_from_slice(&header.encode());
        tx.set(self.object.base().at(SegmentBase::header), encoded)?;
        Ok((self.object, header))
    }
}
