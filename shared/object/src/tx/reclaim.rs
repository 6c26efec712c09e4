//! Entries of FOTs that nothing uses any more, and their second life.
//!
//! A pointer that is set to something else leaves its entry behind. When an object's entries no longer fit its header page, and from time to time
//! after that, the transaction that needs another one looks for those that no pointer uses, and frees them. It finds them by reading the object's bytes: an
//! index is in use where any aligned word could be a pointer by it, before the transaction or after it. So it is never wrong about types, and
//! at worst keeps an entry for a number that looks like a pointer.
//!
//! An index never changes meaning for anybody who may have come by a pointer that has it. Other programs: entries are freed only where no other one has
//! the object mapped, and who maps it later finds no such pointer; and they are used anew only there, since who has mapped it meanwhile remembers
//! them as free. This program's own readers: a freed entry is used anew when all guards have gone that were alive when it was freed.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::address::{PAGE_BYTES, Slot};
use twizzler_abi::object::{BASE_OFFSET, Header};
use twizzler_abi::pointer::{FotEntry, FotKind, PointerBits};

use super::Tx;
use crate::backend::Backend;
use crate::fot::INLINE;
use crate::memory;
use crate::pointer::{Area, Bytes};
use crate::reader::Reader;
use crate::space::header_place;

/// Entries that one transaction frees: its record is bounded.
const FREED_MAX: usize = 512;
/// Bytes that are read for each entry that was added, when the object is large.
const BYTES_FOR_ENTRY: u64 = 64 * 1024;
/// Entries that are added before the next look, at least.
const PATIENCE_MIN: u64 = INLINE / 2;

/// Takes out of `unused` each index by which a word of `bytes` could be a pointer; `bytes` begin at a multiple of eight.
pub fn strike_used(bytes: &[u8], unused: &mut BTreeSet<u64>) {
    for word in bytes.chunks_exact(8) {
        let bits = PointerBits(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        if bits.index() != 0 && bits.is_well_formed() {
            unused.remove(&bits.index());
        }
    }
}

impl<'s, B: Backend> Tx<'s, B> {
    /// An entry of a locked object to be used anew, if there is one.
    pub(super) fn free_entry(&mut self, from: Area<'s>, slot: Slot, len: u64) -> Result<Option<u64>, Error> {
        let id = self.space.mapped(from)?.id;
        if len < INLINE {
            return Ok(None);
        }
        self.learn_entries(from, slot)?;
        let is_impatient = self.space.is_impatient(slot);
        let found = self.space.take_free(slot, id);
        if found.is_none() && is_impatient {
            self.free_unused(from, slot, len)?;
        }
        Ok(found)
    }

    #[cold]
    fn free_unused(&mut self, from: Area<'s>, slot: Slot, len: u64) -> Result<(), Error> {
        // As it lies there, and as it has grown since: there may be pointers in that.
        let grown: u64 = self.get(header_place(from, offset_of!(Header, len_bytes)));
        let bytes = self.space.len_bytes(from).max(grown.min(from.range_bytes() - BASE_OFFSET));
        let mut patience = PATIENCE_MIN.max(bytes / BYTES_FOR_ENTRY);
        if self.space.backend().is_sole(self.space.mapped(from)?.id) {
            // A commit that is not in place yet may write a pointer that the next one has replaced: readers could come by that later.
            self.in_place()?;
            let unused = self.unused_entries(from, slot, len, bytes)?;
            patience = patience.max(len - 1 - unused.len() as u64);
            for index in unused.into_iter().take(FREED_MAX) {
                let place = self.entry_place(from, index)?;
                self.set(place, FotEntry::default())?;
                self.space.know_leaving(slot, index);
                self.work_mut().freed_entries.push((slot, index));
            }
        }
        self.space.be_patient(slot, patience);
        Ok(())
    }

    /// Entries that name their targets by ID, and by which there is no pointer.
    fn unused_entries(
        &mut self,
        from: Area<'s>,
        slot: Slot,
        len: u64,
        len_bytes: u64,
    ) -> Result<BTreeSet<u64>, Error> {
        let mut unused = BTreeSet::new();
        for index in 1..len {
            let entry = self.get(self.entry_place(from, index)?);
            let is_own = self.work().entries.iter().any(|&(of, own, _)| (of, own) == (slot, index));
            if !is_own && matches!(entry.decode(), Ok((FotKind::Id, _))) {
                unused.insert(index);
            }
        }
        let mut buffer: Vec<u8> = vec![0; PAGE_BYTES as usize];
        let mut at = 0;
        while at < len_bytes && !unused.is_empty() {
            let part: Bytes<'s> = area_part(from, at, (len_bytes - at).min(PAGE_BYTES))?;
            let buffer = &mut buffer[..part.len() as usize];
            // As it lies there: who maps the object now sees that.
            memory::read(part, buffer);
            strike_used(buffer, &mut unused);
            self.read(part, 0, buffer)?;
            strike_used(buffer, &mut unused);
            at += PAGE_BYTES;
        }
        Ok(unused)
    }

    /// The transaction is over: what it has freed may be used when those have gone who are inside now.
    pub(super) fn tell_freed_entries(&mut self) {
        while let Some((slot, index)) = self.work_mut().freed_entries.pop() {
            self.space.know_freed(slot, index);
        }
    }

    /// Takes back what is known of entries that were freed, but for the first so many of them.
    pub(super) fn forget_freed_entries(&mut self, keep: usize) {
        while self.work().freed_entries.len() > keep
            && let Some((slot, index)) = self.work_mut().freed_entries.pop()
        {
            self.space.know_staying(slot, index);
        }
    }
}

/// Part of an object, from so many bytes beyond its base.
fn area_part(area: Area<'_>, at: u64, len: u64) -> Result<Bytes<'_>, Error> {
    area.span(BASE_OFFSET + at, len).ok_or(Error::OutOfRange)
}
