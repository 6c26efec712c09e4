//! What a transaction has made itself, and may write in place: blocks, and whole objects.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_abi::address::{range_bytes, range_start};

use super::Tx;
use crate::backend::Backend;
use crate::memory;
use crate::pointer::{Area, Bytes};
use crate::tx::overlay::LINE;

/// Allocated bytes that a transaction stages before it writes them in place. What is written in place costs a fence of its own
/// (see [`Tx::commit`]); what is staged is written twice.
const STAGED_BYTES_MAX: u64 = 3072;
/// Bytes of an allocation that are written in place at once where that costs no fence ([`Backend::keeps_stores`]).
const KEPT_BYTES_MIN: u64 = 256;
/// The same with a log, where what is written in place costs a sync of the object's file.
const LOGGED_BYTES_MAX: u64 = 256 * 1024;

/// Ranges that nobody else can reach before the commit.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    /// Start to end. Flushed whole at commit.
    blocks: BTreeMap<u64, u64>,
    /// The block that was looked at last.
    last: core::cell::Cell<(u64, u64)>,
    objects: Vec<Made>,
    /// Objects that were made are not written in place.
    stages_objects: bool,
}

/// What was fresh before a savepoint.
#[derive(Debug, Default)]
pub(super) struct Outer {
    blocks: BTreeMap<u64, u64>,
    objects: Vec<Made>,
}

/// An object that the transaction made, and what of it was written since the last flush.
#[derive(Debug)]
struct Made {
    start: u64,
    dirty: (u64, u64),
}

impl Fresh {
    /// Forgets everything. With `stages_objects`, objects that are made from now on are not written in place.
    pub(super) fn clear(&mut self, stages_objects: bool) {
        if !self.blocks.is_empty() {
            self.blocks.clear();
        }
        self.objects.clear();
        self.last.set((0, 0));
        self.stages_objects = stages_objects;
    }

    /// True if the transaction has made nothing that is written in place.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.objects.is_empty()
    }

    /// True if there is nothing that must be written back before the record.
    pub(super) fn is_clean(&self) -> bool {
        self.blocks.is_empty() && (self.stages_objects || self.objects.is_empty())
    }

    /// Takes what there is out, so that it is not written in place.
    pub(super) fn begin_inner(&mut self) -> Outer {
        self.last.set((0, 0));
        Outer { blocks: core::mem::take(&mut self.blocks), objects: core::mem::take(&mut self.objects) }
    }

    /// Puts it back; what has come since is kept or forgotten.
    pub(super) fn end_inner(&mut self, outer: Outer, keep: bool) {
        self.last.set((0, 0));
        let (blocks, objects) = (
            core::mem::replace(&mut self.blocks, outer.blocks),
            core::mem::replace(&mut self.objects, outer.objects),
        );
        if keep {
            self.blocks.extend(blocks);
            self.objects.extend(objects);
        }
    }

    pub(super) fn add_block(&mut self, address: u64, len_bytes: u64) {
        let end = self.blocks.entry(address).or_default();
        *end = (address + len_bytes).max(*end);
    }

    pub(super) fn add_object(&mut self, area: Area<'_>) {
        self.objects.push(Made { start: area.start(), dirty: (0, 0) });
    }

    /// Blocks: (address, bytes), those that touch as one.
    pub(super) fn blocks(&self) -> Vec<(u64, u64)> {
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (&from, &to) in &self.blocks {
            match joined.last_mut() {
                Some((start, len)) if *start + *len == from && range_start(from) != from => *len += to - from,
                _ => joined.push((from, to - from)),
            }
        }
        joined
    }

    /// True for an object that the transaction made.
    pub(super) fn made(&self, area: Area<'_>) -> bool {
        self.objects.iter().any(|made| made.start == area.start())
    }

    /// True where all of the range may be written in place.
    pub(super) fn contains(&self, address: u64, len_bytes: u64) -> bool {
        let end = address + len_bytes;
        if self.is_empty() {
            return false;
        }
        let within = |(from, to): (u64, u64)| from <= address && end <= to;
        if within(self.last.get()) {
            return true;
        }
        if let Some((&from, &to)) = self.blocks.range(..=address).next_back()
            && within((from, to))
        {
            self.last.set((from, to));
            return true;
        }
        !self.stages_objects
            && self.objects.iter().any(|made| within((made.start, made.start + range_bytes(made.start))))
    }

    /// Remembers what must be flushed. Writes that follow each other are flushed together.
    pub(super) fn wrote(&mut self, backend: &impl Backend, address: u64, len_bytes: u64) {
        let Some(made) = self.objects.iter_mut().find(|made| made.start == range_start(address)) else {
            return;
        };
        let (from, to) = made.dirty;
        let end = address + len_bytes;
        if from != to && address <= to + LINE && end + LINE >= from {
            made.dirty = (from.min(address), to.max(end));
        } else {
            if from != to {
                // SAFETY: written in place a moment ago, under the transaction's guard, which keeps the object mapped.
                unsafe { backend.flush(from, to - from) };
            }
            made.dirty = (address, end);
        }
    }

    /// Starts writing everything back, no line twice.
    pub(super) fn flush(&self, backend: &impl Backend) {
        // SAFETY: whole lines of what the transaction has written in place; its guard keeps the objects mapped.
        let write_back = |(from, to): (u64, u64)| unsafe { backend.flush(from, to - from) };
        let mut pending = (0, 0);
        let dirty = self.objects.iter().map(|made| made.dirty).filter(|(from, to)| from != to);
        for (from, to) in self.blocks.iter().map(|(&from, &to)| (from, to)).chain(dirty) {
            let (from, to) = (from / LINE * LINE, to.next_multiple_of(LINE));
            if from <= pending.1 && from >= pending.0 {
                pending.1 = pending.1.max(to);
            } else {
                if pending.0 != pending.1 {
                    write_back(pending);
                }
                pending = (from, to);
            }
        }
        if pending.0 != pending.1 {
            write_back(pending);
        }
    }
}

impl<'g, B: Backend> Tx<'g, B> {
    /// Notes that the transaction has allocated these bytes. The first few are staged like other changes; what is more is written
    /// in place.
    pub(crate) fn allocated(&mut self, bytes: Bytes<'g>) -> Result<(), Error> {
        if self.is_fresh(bytes) {
            return Ok(());
        }
        let most = if self.stages() { LOGGED_BYTES_MAX } else { STAGED_BYTES_MAX };
        let is_kept = bytes.len() >= KEPT_BYTES_MIN && self.keeps_stores();
        let staged = !is_kept && self.work().staged_bytes + bytes.len() <= most;
        if staged {
            self.work_mut().staged_bytes += bytes.len();
        } else {
            // What frees it may not be durable yet.
            self.in_place().map_err(|error| self.tear(error))?;
            self.work_mut().fresh.add_block(bytes.address(), bytes.len());
        }
        Ok(())
    }

    /// True where what counts with the record can be in place before it, for nothing. With a log it can't: older records may be put in place again.
    fn keeps_stores(&self) -> bool {
        self.space.backend().keeps_stores() && !self.stages()
    }

    /// True for memory that the transaction has made itself and writes in place.
    pub(crate) fn is_fresh(&self, bytes: Bytes<'g>) -> bool {
        self.work().fresh.contains(bytes.address(), bytes.len())
    }

    /// Overwrites bytes that nobody looks at before something else is in place that the transaction writes, and that mean nothing until then, whatever
    /// becomes of the transaction; nor has it written them itself. Written in place at once where that saves something.
    pub(crate) fn write_unseen(&mut self, to: Bytes<'g>, bytes: &[u8]) -> Result<(), Error> {
        if to.len() < KEPT_BYTES_MIN || !self.keeps_stores() {
            return self.write(to, 0, bytes);
        }
        if let Some(first) = to.index(0) {
            self.lock(first.object())?;
        }
        memory::write(self.space.backend(), to, bytes);
        let work = self.work_mut();
        work.is_in_place = true;
        work.overlay.rewrite(to.address(), bytes);
        Ok(())
    }
}
