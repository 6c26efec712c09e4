//! An append-only log of entries of bytes.
//!
//! Entries lie one behind the other in segments of 64 KiB, each with its length before it; an entry may go on in the next segment. Positions
//! count bytes since the log began, and never come again. What is old can be dropped, segment by segment.

use alloc::vec::Vec;

use twizzler_abi::Error;

use super::raw::steady;
use crate::Stored;
use crate::backend::Backend;
use crate::pointer::{Bytes, InvPtr, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// Bytes of entries in a segment.
const SEGMENT_BYTES: usize = 64 * 1024 - 16;
/// Longest entry.
pub const ENTRY_BYTES_MAX: usize = 16 << 20;

/// What a log is in an object: put one into a record of your own. All zero is an empty log.
#[derive(Stored)]
#[stored(name = "twizzler.log", version = 1)]
#[repr(C)]
pub struct LogRoot {
    first: InvPtr<Segment>,
    last: InvPtr<Segment>,
    /// Position of the first entry that is kept.
    start: u64,
    /// Position behind the last entry.
    end: u64,
}

/// A part of a log.
#[derive(Stored)]
#[stored(name = "twizzler.log-segment", version = 1)]
#[repr(C)]
struct Segment {
    next: InvPtr<Segment>,
    /// Position of its first byte.
    position: u64,
    bytes: [u8; SEGMENT_BYTES],
}

/// A log whose root lies somewhere in an object.
#[derive(Clone, Copy, Debug)]
pub struct Log<'s> {
    root: Ptr<'s, LogRoot>,
}

impl<'s> Log<'s> {
    /// The log of that root.
    #[must_use]
    pub const fn new(root: Ptr<'s, LogRoot>) -> Self {
        Self { root }
    }

    /// Position of the first entry that is kept.
    #[must_use]
    pub fn start(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.root.at(LogRoot::start))
    }

    /// Position behind the last entry: where the next one will be.
    #[must_use]
    pub fn end(&self, reader: &impl Reader<'s>) -> u64 {
        reader.get(self.root.at(LogRoot::end))
    }

    /// Adds an entry; gives its position.
    ///
    /// # Errors
    /// [`Error::TooLong`] above [`ENTRY_BYTES_MAX`]; [`Error::OutOfRange`] where the object is full; [`Error::Damaged`]; what the
    /// transaction says.
    pub fn append<B: Backend>(&self, tx: &mut Tx<'s, B>, entry: &[u8]) -> Result<u64, Error> {
        if entry.len() > ENTRY_BYTES_MAX {
            return Err(Error::TooLong);
        }
        tx.lock(self.root.object())?;
        let position = self.end(tx);
        let len = (entry.len() as u32).to_le_bytes();
        let end = position.checked_add((len.len() + entry.len()) as u64).ok_or(Error::Damaged)?;
        let mut segment = self.reserve(tx, position, end)?;
        let mut at = position;
        for mut bytes in [&len[..], entry] {
            while !bytes.is_empty() {
                let mut within = at.wrapping_sub(tx.get(segment.at(Segment::position)));
                if within == SEGMENT_BYTES as u64 {
                    segment = tx.follow(segment.at(Segment::next))?.ok_or(Error::Damaged)?;
                    within = 0;
                }
                let len = bytes.len().min(SEGMENT_BYTES.saturating_sub(within as usize));
                tx.write(segment.at(Segment::bytes).span(), within, &bytes[..len])?;
                at += len as u64;
                bytes = &bytes[len..];
            }
        }
        tx.set(self.root.at(LogRoot::end), end)?;
        Ok(position)
    }

    /// Makes room for entries from `position`, where the log ends, up to `end`: for all, or for none. Gives the segment that begins, or goes on, at
    /// `position`.
    fn reserve<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        position: u64,
        end: u64,
    ) -> Result<Ptr<'s, Segment>, Error> {
        let last = tx.follow(self.root.at(LogRoot::last))?;
        let mut to = position;
        if let Some(last) = last {
            to = tx.get(last.at(Segment::position)).wrapping_add(SEGMENT_BYTES as u64);
            if to.wrapping_sub(position) > SEGMENT_BYTES as u64 {
                return Err(Error::Damaged);
            }
            if to >= end {
                return Ok(last);
            }
        }
        let goes_on = last.filter(|_| to > position);
        let mut new = Vec::new();
        while to < end {
            match self.make_segment(tx, to, end) {
                Ok(segment) => new.push(segment),
                Err(error) => {
                    new.into_iter().try_for_each(|segment| tx.free(segment))?;
                    return Err(error);
                }
            }
            to = to.saturating_add(SEGMENT_BYTES as u64);
        }
        let mut place = last.map_or(self.root.at(LogRoot::first), |last| last.at(Segment::next));
        for &segment in &new {
            tx.link(place, Some(segment))?;
            place = segment.at(Segment::next);
        }
        tx.link(self.root.at(LogRoot::last), new.last().copied())?;
        goes_on.or(new.first().copied()).ok_or(Error::Damaged)
    }

    /// Makes a segment, for entries up to `end`, that nothing leads to yet.
    fn make_segment<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        position: u64,
        end: u64,
    ) -> Result<Ptr<'s, Segment>, Error> {
        let area = self.root.object();
        let bytes = tx.alloc_raw(area, size_of::<Segment>() as u64, align_of::<Segment>() as u64)?;
        // What this transaction will write. The rest stays as it is until there are entries.
        let used = (end - position).min(SEGMENT_BYTES as u64) + 16;
        tx.allocated(bytes.slice(0, used).ok_or(Error::Damaged)?)?;
        let segment: Ptr<'s, Segment> = area.place(bytes.address() - area.start()).ok_or(Error::Damaged)?;
        tx.link(segment.at(Segment::next), None)?;
        tx.set(segment.at(Segment::position), position)?;
        Ok(segment)
    }

    /// Drops the entries before `position`, which must be that of an entry, or the end. Gives back the memory of segments without entries.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a position before the oldest entry, behind the end, or where no entry of a length that can be begins: others
    /// that are no entry's are not noticed. [`Error::Damaged`]; what the transaction says.
    pub fn drop_before<B: Backend>(&self, tx: &mut Tx<'s, B>, position: u64) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        if position < self.start(tx) || position > self.end(tx) {
            return Err(Error::InvalidArgument);
        }
        let mut there = Follower { log: *self, segment: None, position };
        if position < self.end(tx) && there.entry_bytes(tx)?.is_none() {
            return Err(Error::InvalidArgument);
        }
        tx.set(self.root.at(LogRoot::start), position)?;
        while let Some(first) = tx.follow(self.root.at(LogRoot::first))? {
            let next = tx.follow(first.at(Segment::next))?;
            let end = tx.get(first.at(Segment::position)).saturating_add(SEGMENT_BYTES as u64);
            if end > position {
                break;
            }
            // Positions ascend: otherwise this would have no end.
            if next.is_some_and(|next| tx.get(next.at(Segment::position)) != end) {
                return Err(Error::Damaged);
            }
            tx.link(self.root.at(LogRoot::first), next)?;
            if next.is_none() {
                tx.link(self.root.at(LogRoot::last), None)?;
            }
            tx.free(first)?;
        }
        Ok(())
    }

    /// A reader that begins with the oldest entry and can go on when there are more.
    #[must_use]
    pub fn follower(&self, reader: &impl Reader<'s>) -> Follower<'s> {
        Follower { log: *self, segment: None, position: self.start(reader) }
    }

    /// All entries from the oldest on. An error ends them.
    pub fn iter<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
    ) -> impl Iterator<Item = Result<Vec<u8>, Error>> + use<'r, 's, R> {
        let mut follower = self.follower(reader);
        let mut ended = false;
        core::iter::from_fn(move || {
            if ended {
                return None;
            }
            let entry = follower.next(reader).transpose();
            ended = !matches!(entry, Some(Ok(_)));
            entry
        })
    }
}

/// A place in a log, between entries.
#[derive(Clone, Copy, Debug)]
pub struct Follower<'s> {
    log: Log<'s>,
    /// The segment that the position was last in.
    segment: Option<Ptr<'s, Segment>>,
    position: u64,
}

impl<'s> Follower<'s> {
    /// Position of the next entry.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The next entry; None where there is none yet. Where entries have been dropped that it has not seen, it goes on with the oldest.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn next(&mut self, reader: &impl Reader<'s>) -> Result<Option<Vec<u8>>, Error> {
        let (next, entry) = steady(reader, self.log.root.object(), || self.look(reader))?;
        *self = next;
        Ok(entry)
    }

    /// The next entry, and the place behind it.
    fn look(&self, reader: &impl Reader<'s>) -> Result<(Self, Option<Vec<u8>>), Error> {
        let oldest = self.log.start(reader);
        // At the oldest too: the segment that ends there, which the position was last in, is given back with what is dropped.
        let mut next = if self.position <= oldest { self.log.follower(reader) } else { *self };
        if next.position >= self.log.end(reader) {
            return Ok((next, None));
        }
        let len = next.entry_bytes(reader)?.ok_or(Error::Damaged)?;
        let mut entry = alloc::vec![0; len];
        next.read(reader, &mut entry)?;
        Ok((next, Some(entry)))
    }

    /// Reads an entry's length. None: no entry has that.
    fn entry_bytes(&mut self, reader: &impl Reader<'s>) -> Result<Option<usize>, Error> {
        let mut len = [0; 4];
        self.read(reader, &mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        let left = self.log.end(reader).saturating_sub(self.position);
        Ok(Some(len).filter(|&len| len <= ENTRY_BYTES_MAX && len as u64 <= left))
    }

    fn read(&mut self, reader: &impl Reader<'s>, mut buffer: &mut [u8]) -> Result<(), Error> {
        while !buffer.is_empty() {
            let segment = self.find(reader)?;
            let within = self.position - reader.get(segment.at(Segment::position));
            let bytes: Bytes<'s> = segment.at(Segment::bytes).span();
            let len = buffer.len().min(SEGMENT_BYTES - within as usize);
            let (part, rest) = buffer.split_at_mut(len);
            reader.read(bytes, within, part)?;
            self.position += len as u64;
            buffer = rest;
        }
        Ok(())
    }

    /// The segment of the position.
    fn find(&mut self, reader: &impl Reader<'s>) -> Result<Ptr<'s, Segment>, Error> {
        let mut segment = self.segment;
        let mut last = None;
        loop {
            let place = segment.map_or(self.log.root.at(LogRoot::first), |segment| segment.at(Segment::next));
            if let Some(segment) = segment {
                let start = reader.get(segment.at(Segment::position));
                // Segments' positions ascend: otherwise this would have no end.
                if last.is_some_and(|last| last >= start) {
                    return Err(Error::Damaged);
                }
                last = Some(start);
                if self.position.wrapping_sub(start) < SEGMENT_BYTES as u64 {
                    self.segment = Some(segment);
                    return Ok(segment);
                }
            }
            segment = Some(reader.follow(place)?.ok_or(Error::Damaged)?);
        }
    }
}
