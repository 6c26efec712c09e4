//! Making pointers: encoding a target for the object that the pointer lies in, and the FOT entries that this needs.
//!
//! An entry is staged like any other change, so it exists exactly if the transaction commits. Equal targets share an entry; an
//! index, once committed, never changes meaning.

use core::mem::offset_of;

use twizzler_abi::address::{SLOT_BYTES, Slot};
use twizzler_abi::object::{FOT_INLINE_ENTRIES, Header};
use twizzler_abi::pointer::{FotEntry, FotKind, PointerBits};
use twizzler_abi::{Error, Rights};

use super::Tx;
use crate::backend::Backend;
use crate::pointer::{Area, InvPtr, InvSpan, Ptr, Span};
use crate::reader::Reader;
use crate::space::{fot_place, header_place};
use crate::stored::Stored;

impl<'s, B: Backend> Tx<'s, B> {
    /// Makes the pointer at a place point to `target`, wherever that is, or nowhere.
    ///
    /// # Errors
    /// [`Error::TooMany`] where the object's FOT is full; [`Error::InvalidArgument`] for a pointer from what outlives a power
    /// cut to what doesn't; otherwise as [`Tx::lock`].
    pub fn link<T: Stored>(
        &mut self,
        place: Ptr<'s, InvPtr<T>>,
        target: Option<Ptr<'s, T>>,
    ) -> Result<(), Error> {
        let bits = match target {
            Some(target) => self.encode(place.object(), target.address())?,
            None => PointerBits::NULL,
        };
        self.set(place.bits(), bits.0)
    }

    /// Makes the span at a place that of `target`.
    ///
    /// # Errors
    /// As [`Tx::link`].
    pub fn link_span<T: Stored>(
        &mut self,
        place: Ptr<'s, InvSpan<T>>,
        target: Span<'s, T>,
    ) -> Result<(), Error> {
        let bits = if target.is_empty() {
            PointerBits::NULL
        } else {
            self.encode(place.object(), target.address())?
        };
        self.set(place.at(InvSpan::AT).bits(), bits.0)?;
        self.set(place.at(InvSpan::LEN), target.len())
    }

    fn encode(&mut self, from: Area<'s>, target: u64) -> Result<PointerBits, Error> {
        let offset = target % SLOT_BYTES;
        if target - offset == from.start() {
            return PointerBits::new(0, offset);
        }
        let to = Slot::of(target).ok_or(Error::OutOfRange)?;
        PointerBits::new(self.fot_index(from, to)?, offset)
    }

    /// The index in `from`'s FOT of the object at the slot `to`.
    fn fot_index(&mut self, from: Area<'s>, to: Slot) -> Result<u64, Error> {
        let slot = Slot::of(from.start()).ok_or(Error::OutOfRange)?;
        if let Some(index) = self.space.known_index(slot, to) {
            return Ok(index);
        }
        self.lock(from)?;
        let target = self.space.mapped(crate::space::area_of(to))?;
        if self.space.mapped(from)?.persistent && !target.persistent {
            return Err(Error::InvalidArgument);
        }
        let len_place = header_place::<u64>(from, offset_of!(Header, fot_len_entries));
        let len = self.get(len_place).max(1);
        let used = len.min(FOT_INLINE_ENTRIES as u64);
        let found = (1..used).find(|&index| {
            let entry = self.get(fot_place(from, index));
            entry.target == target.id && matches!(entry.decode(), Ok((FotKind::Id, _)))
        });
        if let Some(index) = found {
            self.space.set_known_index(slot, to, Some(index));
            return Ok(index);
        }
        if len >= FOT_INLINE_ENTRIES as u64 {
            return Err(Error::TooMany);
        }
        let expected = self.space.fingerprint(crate::space::area_of(to))?;
        let rights = if target.writable { Rights::READ | Rights::WRITE } else { Rights::READ };
        self.set(fot_place(from, len), FotEntry::to_id(target.id, rights, expected))?;
        self.set(len_place, len + 1)?;
        // So that the transaction itself can follow the pointer; taken back if it is undone.
        self.work_mut().entries.push((slot, len, to));
        self.space.set_row(slot, len, to.base());
        self.space.set_known_index(slot, to, Some(len));
        Ok(len)
    }

    /// Takes back what `fot_index` put into volatile tables, but for the first so many.
    pub(super) fn forget_entries(&mut self, keep: usize) {
        while self.work().entries.len() > keep
            && let Some((slot, index, to)) = self.work_mut().entries.pop()
        {
            self.space.set_row(slot, index, 0);
            self.space.set_known_index(slot, to, None);
        }
    }
}
