//! From the bits of a pointer to the place that they mean. All pointers are resolved here.
//!
//! *Local*: a comparison says that the bits are an offset, which is added to the start of the object's range. *Foreign*: one load from the
//! translation table gives the start of the target's. Everything else, rare or wrong, is told apart out of line, by
//! [`meaning_of`]: that is the definition, and the short ways agree with it for all bits.
//!
//! Everything counts from the start of a range. Who has a pointer's address takes the start from that ([`range_start`]);
//! a [`crate::Cursor`] keeps it; tools and tests that hold an object's bytes elsewhere have [`meaning_of`], which needs no address at all.

use core::num::NonZeroU64;

use twizzler_abi::Error;
use twizzler_abi::address::{LARGE_START, SLOT_BYTES, SMALL_SLOTS, range_bytes, range_start};
use twizzler_abi::object::{BASE_OFFSET, FOT_INLINE_ENTRIES};
use twizzler_abi::pointer::{FOT_ENTRIES_MAX, OFFSET_BITS, PointerBits, SPARE_BITS};

use crate::backend::{Backend, ROW_WORDS};
use crate::memory;
use crate::pointer::{Ptr, Span, assert_has_bytes};
use crate::space::Space;
use crate::stored::{Stored, TypeOf, type_of};

/// What is to lie at the place.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// So many bytes.
    pub len_bytes: u64,
    /// A power of two.
    pub align: u64,
}

impl Want {
    /// A value.
    #[inline(always)]
    pub(crate) const fn one<T>() -> Self {
        const { assert_has_bytes::<T>() };
        Self { len_bytes: size_of::<T>() as u64, align: align_of::<T>() as u64 }
    }

    /// True where it fits at an offset of a range of so many bytes, beyond the metadata.
    #[inline(always)]
    pub(crate) const fn fits(self, offset: u64, range_bytes: u64) -> bool {
        let room = range_bytes - BASE_OFFSET;
        self.len_bytes <= room
            && offset.wrapping_sub(BASE_OFFSET) <= room - self.len_bytes
            && offset & (self.align - 1) == 0
    }
}

/// What the bits of a pointer say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Nowhere.
    Null,
    /// An offset in the object that holds the pointer.
    Local(u64),
    /// An offset in the object of a FOT entry.
    Foreign {
        /// Which entry.
        index: u64,
        /// The offset. It fits some object, not necessarily the target.
        offset: u64,
    },
}

/// What the bits of a pointer say that lies in an object with a range of so many bytes.
///
/// # Errors
/// [`Error::Damaged`] for bits that no pointer to `want` has.
pub fn meaning_of(bits: PointerBits, want: Want, range_bytes: u64) -> Result<Meaning, Error> {
    let (index, offset) = (bits.index(), bits.offset());
    if bits.is_null() {
        return Ok(Meaning::Null);
    }
    let range_bytes = if index == 0 { range_bytes } else { twizzler_abi::address::LARGE_BYTES };
    if !bits.is_well_formed() || !want.fits(offset, range_bytes) {
        return Err(Error::Damaged);
    }
    const { assert!(FOT_ENTRIES_MAX == 1 << (64 - OFFSET_BITS - SPARE_BITS), "any index may be that of an entry") };
    Ok(if index == 0 { Meaning::Local(offset) } else { Meaning::Foreign { index, offset } })
}

/// A place: its address, and the start of the range that it lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    pub(crate) address: NonZeroU64,
    pub(crate) start: u64,
}

impl Spot {
    /// # Safety
    /// `offset` lies in the range that starts at `start`, beyond the metadata.
    #[inline(always)]
    const unsafe fn new(start: u64, offset: u64) -> Self {
        // SAFETY: ranges end far below 2^64, and the offset is not 0.
        Self { address: unsafe { NonZeroU64::new_unchecked(start.wrapping_add(offset)) }, start }
    }
}

impl<B: Backend> Space<B> {
    /// The place that `bits`, lying at the address `at`, point to. `at` is in a mapped object.
    #[inline(always)]
    pub(crate) fn resolve<'s, T: Stored>(
        &'s self,
        at: u64,
        bits: PointerBits,
    ) -> Result<Option<Ptr<'s, T>>, Error> {
        let found = self.resolve_from(at, range_start(at), bits, Want::one::<T>(), type_of::<T>)?;
        Ok(found.map(|spot| {
            // SAFETY: `resolve_from` has checked that a `T`'s bytes at its alignment lie in a mapped object's range beyond
            // the metadata; the module's invariant says how long it is mapped.
            unsafe { Ptr::new(spot.address) }
        }))
    }

    /// The span that a stored span's two words mean.
    pub(crate) fn resolve_span<'s, T: Stored>(
        &'s self,
        at: u64,
        bits: PointerBits,
        len: u64,
    ) -> Result<Span<'s, T>, Error> {
        if len == 0 {
            return Ok(Span::EMPTY);
        }
        const { assert_has_bytes::<T>() };
        let len_bytes = len.checked_mul(size_of::<T>() as u64).ok_or(Error::Damaged)?;
        let want = Want { len_bytes, align: align_of::<T>() as u64 };
        let spot = self.resolve_from(at, range_start(at), bits, want, type_of::<T>)?.ok_or(Error::Damaged)?;
        // SAFETY: `resolve_from` has checked that all the bytes lie in a mapped object's range, aligned for `T`.
        Ok(unsafe { Span::new(spot.address.get(), len) })
    }

    /// Where `bits` point to that lie in the mapped object whose range starts at `start`. What is wanted fits there, and the target is mapped.
    /// `inside` is whichever address in that range is known first; `of` is the type of what is wanted.
    #[inline(always)]
    pub(crate) fn resolve_from(
        &self,
        inside: u64,
        start: u64,
        bits: PointerBits,
        want: Want,
        of: TypeOf,
    ) -> Result<Option<Spot>, Error> {
        // One comparison says: not null, index and spare bits zero, not below the base, all within the range.
        if want.fits(bits.0, range_bytes(start)) {
            // SAFETY: it fits.
            return Ok(Some(unsafe { Spot::new(start, bits.0) }));
        }
        self.resolve_foreign(inside, start, bits, want, of)
    }

    #[inline(always)]
    fn resolve_foreign(
        &self,
        inside: u64,
        start: u64,
        bits: PointerBits,
        want: Want,
        of: TypeOf,
    ) -> Result<Option<Spot>, Error> {
        /// Bits between offset and index, which are zero.
        const SPARE: u64 = ((1 << SPARE_BITS) - 1) << OFFSET_BITS;
        const INLINE_BYTES: u64 = FOT_INLINE_ENTRIES as u64 * 8;
        let offset = bits.offset();
        // As spare bits are zero, this is eight times the index: where its word lies in the row.
        let word = bits.0 >> (OFFSET_BITS + SPARE_BITS - 3);
        if bits.0 & (SPARE | (want.align - 1)) == 0
            && want.fits(offset, SLOT_BYTES)
            && word.wrapping_sub(8) < INLINE_BYTES - 8
            && inside < LARGE_START
        {
            // Doesn't depend on the bits, so it is there when they have arrived.
            let row = self.translation
                + (inside / SLOT_BYTES).wrapping_sub(SMALL_SLOTS.start as u64) * (ROW_WORDS * 8);
            // SAFETY: `inside` lies in a mapped object below the area of large ones, so it lies at a small slot as the backend
            // promises, and its row is in the table; the word is that of an inline index.
            let target = unsafe { memory::load_row(row, word) };
            if target != 0 {
                // SAFETY: it fits a small object, so it fits any.
                return Ok(Some(unsafe { Spot::new(target, offset) }));
            }
        }
        if bits.is_null() {
            return Ok(None);
        }
        match self.resolve_slowly(start, bits, want, of) {
            Slow(0, 0) => Ok(None),
            Slow(0, number) => Err(error_of(number)),
            Slow(address, start) => {
                // SAFETY: a null word is what the ways above are for.
                let address = unsafe { NonZeroU64::new_unchecked(address) };
                Ok(Some(Spot { address, start }))
            }
        }
    }

    /// [`Space::find`], out of line.
    #[cold]
    #[inline(never)]
    fn resolve_slowly(&self, start: u64, bits: PointerBits, want: Want, of: TypeOf) -> Slow {
        match self.find(start, bits, want, of) {
            Ok(None) => Slow(0, 0),
            Ok(Some(spot)) => Slow(spot.address.get(), spot.start),
            Err(error) => Slow(0, error as u64),
        }
    }

    /// What the short ways leave over: bits that mean nothing, the first use of an entry, entries beyond the inline ones, and large objects.
    fn find(&self, start: u64, bits: PointerBits, want: Want, of: TypeOf) -> Result<Option<Spot>, Error> {
        match meaning_of(bits, want, range_bytes(start))? {
            Meaning::Null => Ok(None),
            // SAFETY: it fits, or it would mean nothing.
            Meaning::Local(offset) => Ok(Some(unsafe { Spot::new(start, offset) })),
            Meaning::Foreign { index, offset } => {
                let target = self.target_of(start, index, of)?;
                if !want.fits(offset, range_bytes(target)) {
                    return Err(Error::Damaged);
                }
                // SAFETY: it fits.
                Ok(Some(unsafe { Spot::new(target, offset) }))
            }
        }
    }
}

/// A [`Spot`] by address and start; address 0: an error by its number, or null. Two words, so that they come back in registers: for
/// what comes back in memory, the compiler takes the results of the short ways through memory too.
struct Slow(u64, u64);

#[cold]
fn error_of(number: u64) -> Error {
    u32::try_from(number).ok().and_then(Error::from_number).unwrap_or(Error::Damaged)
}
