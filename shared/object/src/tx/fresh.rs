//! What a transaction has made itself, and may write in place: blocks, and whole objects.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use twizzler_abi::address::{range_bytes, range_start};

use crate::backend::Backend;
use crate::pointer::Area;
use crate::tx::overlay::LINE;

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
        self.blocks.clear();
        self.objects.clear();
        self.last.set((0, 0));
        self.stages_objects = stages_objects;
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
        if self.blocks.is_empty() && self.objects.is_empty() {
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
