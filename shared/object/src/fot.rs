//! The foreign object table (FOT): which objects an object's pointers lead to.
//!
//! The first entries lie in the object's header page. The others lie in its *companion*, an object of its own that the header names
//! and that names its *holder*: where each names the other, they belong together. Entries are only ever added, and one
//! that has been committed never changes its meaning.
//!
//! An entry names its target by ID, or by a name: then whoever follows a pointer for the first time asks the space's [`Resolver`], and stays with
//! the answer as long as the target is mapped.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, Ordering, fence};

use twizzler_abi::address::{Slot, range_start};
use twizzler_abi::object::{BASE_OFFSET, FOT_INLINE_ENTRIES, FOT_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::pointer::{FOT_ENTRIES_MAX, FotEntry, FotKind, PointerBits};
use twizzler_abi::{Error, ObjId, Rights};

use crate::backend::Backend;
use crate::coordination::{StripeWord, stripe_of};
use crate::guard::Guard;
use crate::memory;
use crate::pointer::{Area, Bytes, Ptr};
use crate::reader::Reader;
use crate::space::{Space, area_of, header_place};
use crate::stored::Stored;

/// Entries that lie in the header page, counting entry 0.
pub(crate) const INLINE: u64 = FOT_INLINE_ENTRIES as u64;
/// Bytes of a name that an entry names its target by.
pub const LATE_NAME_BYTES_MAX: u64 = 1024;

/// Tells which object has a name. `twizzler_names::resolve` is one.
pub type Resolver<B> = fn(&Guard<'_, B>, &str) -> Result<ObjId, Error>;

/// A space's [`Resolver`], or none. Its type doesn't tell of which space: a space of a backend must do as one of the same backend for a shorter
/// time, and one that held a function of the backend's type would not.
#[derive(Debug, Default)]
pub(crate) struct AnyResolver(AtomicPtr<()>);

impl AnyResolver {
    fn set<B: Backend>(&self, resolver: Resolver<B>) {
        // Release pairs with the acquire in `resolve`.
        self.0.store(resolver as *mut (), Ordering::Release);
    }

    /// Asks it, for the space that has it.
    fn resolve<B: Backend>(&self, guard: &Guard<'_, B>, name: &str) -> Result<ObjId, Error> {
        let resolver = self.0.load(Ordering::Acquire);
        if resolver.is_null() {
            return Err(Error::NotSupported);
        }
        // SAFETY: `set` stored a `Resolver` of this very space's backend, perhaps with other lifetimes in its type. Of those the function can
        // tell nothing: it is given a guard of the space, whose backend lives longer than the call, and keeps nothing.
        let resolver = unsafe { core::mem::transmute::<*mut (), Resolver<B>>(resolver) };
        resolver(guard, name)
    }
}

/// Base of a companion. The entries follow it, from that of index `FOT_INLINE_ENTRIES` on.
#[derive(Stored)]
#[stored(name = "twizzler.fot-companion", version = 1)]
#[repr(C)]
pub struct Companion {
    /// The object whose table it continues.
    pub holder: ObjId,
    reserved: [u64; 2],
}

impl Companion {
    /// Offset in a companion of the entry of an index, which is not an inline one.
    #[must_use]
    pub const fn offset_of_entry(index: u64) -> u64 {
        const { assert!(size_of::<Self>().is_multiple_of(align_of::<FotEntry>())) }
        BASE_OFFSET + size_of::<Self>() as u64 + (index - INLINE) * size_of::<FotEntry>() as u64
    }
}

/// The place of an entry. `companion` is asked for where it isn't inline.
pub(crate) fn entry_place<'s>(
    area: Area<'s>,
    index: u64,
    companion: impl FnOnce() -> Result<Area<'s>, Error>,
) -> Result<Ptr<'s, FotEntry>, Error> {
    if index < INLINE {
        let offset = FOT_OFFSET + index * size_of::<FotEntry>() as u64;
        return area
            .span_from::<FotEntry>(HEADER_OFFSET, offset, 1)
            .and_then(|span| span.index(0))
            .ok_or(Error::OutOfRange);
    }
    if index >= FOT_ENTRIES_MAX {
        return Err(Error::OutOfRange);
    }
    companion()?.place(Companion::offset_of_entry(index)).ok_or(Error::OutOfRange)
}

/// The header's word that names the companion.
pub(crate) fn companion_place(area: Area<'_>) -> Ptr<'_, ObjId> {
    header_place(area, offset_of!(Header, fot_companion))
}

impl<B: Backend> Space<B> {
    /// Lets pointers lead to names, which `resolver` resolves from now on. What was resolved before stays so while it is mapped.
    pub fn resolve_names_by(&self, resolver: Resolver<B>) {
        self.resolver.set(resolver);
    }

    /// The companion of a mapped object, of which the header says that it is `id`. `read` tells what stands at a place.
    pub(crate) fn companion<'s>(
        &self,
        area: Area<'s>,
        id: ObjId,
        read: impl FnOnce(Ptr<'s, ObjId>) -> ObjId,
    ) -> Result<Area<'s>, Error> {
        let (holder, slot) = (self.id_of(area), Slot::of(area.start()).ok_or(Error::Damaged)?);
        if id.is_none() || id == holder {
            return Err(Error::Damaged);
        }
        let companion = self.map(id)?;
        if self.fingerprint(companion)? != Companion::FINGERPRINT {
            return Err(Error::Damaged);
        }
        // From here on it lives as long as the object's places do: it has been mapped while those who use them were inside.
        let companion = Slot::of(companion.start()).map(area_of).ok_or(Error::Damaged)?;
        let base: Ptr<'s, Companion> = companion.place(BASE_OFFSET).ok_or(Error::Damaged)?;
        if read(base.at(Companion::holder)) != holder {
            return Err(Error::Damaged);
        }
        self.know_companion(slot, id);
        Ok(companion)
    }

    /// The entry as it lies in memory. One beyond those that were ever used is free.
    fn fot_entry(&self, area: Area<'_>, index: u64) -> Result<FotEntry, Error> {
        if index >= INLINE && index >= memory::load(header_place(area, offset_of!(Header, fot_len_entries))) {
            return Ok(FotEntry::default());
        }
        let companion = || self.companion(area, memory::load(companion_place(area)), memory::load);
        entry_place(area, index, companion).map(memory::load)
    }

    /// The target of an entry, the rights that it asks for, and the type that it expects, 0 for any.
    pub(crate) fn target(&self, area: Area<'_>, index: u64) -> Result<(ObjId, Rights, u64), Error> {
        let entry = self.fot_entry(area, index)?;
        let (kind, rights) = entry.decode()?;
        let id = match kind {
            FotKind::Id => entry.target,
            FotKind::Name => {
                let text = name_of(area, &entry)?;
                let mut name = vec![0; text.len() as usize];
                memory::read(text, &mut name);
                self.object_named(name)?
            }
            FotKind::Free => return Err(Error::Damaged),
        };
        Ok((id, rights, entry.fingerprint))
    }

    /// The bits of a pointer in `from` to an address in a mapped object, if an entry names that. Entries that `reader` comes by are remembered, so that they are
    /// looked at once, unless somebody changes them meanwhile.
    pub(crate) fn encoded<'s>(
        &self,
        reader: &impl Reader<'s>,
        from: Area<'s>,
        target: u64,
    ) -> Result<Option<u64>, Error> {
        let start = range_start(target);
        let bits = |index| PointerBits::new(index, target - start).map(|bits| Some(bits.0));
        if start == from.start() {
            return bits(0);
        }
        let slot = Slot::of(from.start()).ok_or(Error::OutOfRange)?;
        let id = self.mapped(area_of(Slot::of(start).ok_or(Error::OutOfRange)?))?.id;
        if let Some(index) = self.known_index(slot, id) {
            return bits(index);
        }
        let changes = reader.changes(from);
        // Acquire: pairs with the release at the end of a change.
        let before = changes.map(|changes| changes.load(Ordering::Acquire));
        // Who holds the object's lock may have begun to free entries before it was mapped here: what is in place is not remembered then.
        let is_settled = before.is_none_or(|before| before & 1 == 0 && self.has_no_writer(from));
        let len: u64 = reader.get(header_place(from, offset_of!(Header, fot_len_entries)));
        let (first, mut found, mut entries) = (self.known_entries(slot).max(1), None, Vec::new());
        for index in first..len.min(FOT_ENTRIES_MAX) {
            let companion =
                || self.companion(from, reader.get(companion_place(from)), |holder| reader.get(holder));
            let entry = reader.get(entry_place(from, index, companion)?);
            entries.push(entry);
            if entry.target == id && matches!(entry.decode(), Ok((FotKind::Id, _))) {
                found = Some(index);
                break;
            }
        }
        // Acquire: pairs with the release at the beginning of a change.
        fence(Ordering::Acquire);
        if is_settled && changes.map(|changes| changes.load(Ordering::Relaxed)) == before {
            self.know_entries(slot, first, &entries);
        }
        found.map_or(Ok(None), bits)
    }

    /// True where nobody changes a mapped object.
    fn has_no_writer(&self, area: Area<'_>) -> bool {
        // SeqCst: after the object was mapped. Who takes the lock later finds that it is.
        self.stripe_word(stripe_of(self.id_of(area)), StripeWord::Writer).load(Ordering::SeqCst) == 0
    }

    /// The object that has this name.
    pub(crate) fn object_named(&self, name: Vec<u8>) -> Result<ObjId, Error> {
        let name = String::from_utf8(name).map_err(|_| Error::Damaged)?;
        self.resolver.resolve(&self.enter(), &name)
    }
}

/// The name that an entry of the object names its target by.
pub(crate) fn name_of<'s>(area: Area<'s>, entry: &FotEntry) -> Result<Bytes<'s>, Error> {
    let (offset, len_bytes) = (entry.target.hi, entry.target.lo);
    if len_bytes > LATE_NAME_BYTES_MAX {
        return Err(Error::Damaged);
    }
    area.span(offset, len_bytes).ok_or(Error::Damaged)
}
