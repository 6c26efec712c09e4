//! Pointers: invariant ones, that lie in objects, and resolved ones, that programs hold.
//!
//! An [`InvPtr`] means something only at its *place*: its bits count in the FOT of the object that holds them. So it is
//! neither `Copy` nor `Clone` and never handed out by value; [`crate::Reader::follow`] reads it where it lies and gives
//! a [`Ptr`], and [`crate::Tx::link`] makes it point to one, encoding it for the object that it goes to.
//!
//! A `Ptr<'g, T>` borrows from the [`crate::Guard`] under which it was resolved: nothing that it may lie in is unmapped before that is gone.
//! Its invariant: the address is aligned for `T`, and all of a `T` lies within the mapped range of one object, beyond
//! the metadata page.

use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;

use twizzler_abi::address::{SLOT_BYTES, range_bytes, range_start};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::pointer::PointerBits;

use crate::resolve::Want;
use crate::stored::{Field, Fingerprint, Shape, Stored, Value, type_of};

/// A pointer that lies in an object: 64 bits, a FOT index and an offset. Null is 0.
///
/// It can't be moved away from its place:
///
/// ```compile_fail
/// use twizzler_object::InvPtr;
/// fn steal(place: &InvPtr<u64>) -> InvPtr<u64> { *place }
/// ```
#[repr(transparent)]
pub struct InvPtr<T> {
    bits: PointerBits,
    target: PhantomData<fn() -> T>,
}

// SAFETY: transparent over a word of which every bit pattern is a pointer, perhaps one that doesn't resolve; it means
// the same in every program as long as it stays at its place, which it can't leave by value.
unsafe impl<T: Stored> Stored for InvPtr<T> {
    const NAME: &'static str = "pointer";
    const FINGERPRINT: u64 = Fingerprint::new("pointer", 1).target::<T>().finish();
    const ARGUMENTS: u64 = Fingerprint::new("arguments", 1).argument::<T>().finish();
    const SHAPE: Shape = Shape::Pointer(type_of::<T>);
}

/// A pointer to several values in a row, as it lies in an object. Empty is all zero.
#[repr(C)]
pub struct InvSpan<T> {
    at: InvPtr<T>,
    len: u64,
}

/// A span of bytes, as it lies in an object.
pub type InvBytes = InvSpan<u8>;

impl<T: Stored> InvSpan<T> {
    pub(crate) const AT: Field<Self, InvPtr<T>> = {
        // SAFETY: the compiler computed the offset of this very field.
        unsafe { Field::new(core::mem::offset_of!(Self, at)) }
    };
    pub(crate) const LEN: Field<Self, u64> = {
        // SAFETY: as above.
        unsafe { Field::new(core::mem::offset_of!(Self, len)) }
    };
}

// SAFETY: repr(C), a pointer and a number of 8 bytes each.
unsafe impl<T: Stored> Stored for InvSpan<T> {
    const NAME: &'static str = "span";
    const FINGERPRINT: u64 = Fingerprint::new("span", 1).target::<T>().finish();
    const ARGUMENTS: u64 = Fingerprint::new("arguments", 1).argument::<T>().finish();
    const SHAPE: Shape = Shape::Span(type_of::<T>);
}

/// What a resolved pointer is made of, to the type checker.
type Borrowed<'s, T> = (&'s (), fn() -> T);

/// A resolved pointer: where a `T` is mapped in this program.
pub struct Ptr<'s, T> {
    address: NonZeroU64,
    target: PhantomData<Borrowed<'s, T>>,
}

impl<T> Clone for Ptr<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ptr<'_, T> {}
impl<T> PartialEq for Ptr<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}
impl<T> Eq for Ptr<'_, T> {}
impl<T> fmt::Debug for Ptr<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.address)
    }
}

impl<'s, T> Ptr<'s, T> {
    /// # Safety
    /// The address fulfils the module's invariant for `T` and `'s`.
    #[inline(always)]
    pub(crate) const unsafe fn new(address: NonZeroU64) -> Self {
        Self { address, target: PhantomData }
    }

    /// The address.
    #[inline(always)]
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address.get()
    }

    /// Offset in its object.
    #[inline]
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.address.get() - range_start(self.address.get())
    }

    /// The object that it lies in.
    #[inline]
    #[must_use]
    pub const fn object(self) -> Area<'s> {
        Area { start: range_start(self.address.get()), space: PhantomData }
    }

    /// A field's place.
    #[inline(always)]
    #[must_use]
    pub fn at<F: Stored>(self, field: Field<T, F>) -> Ptr<'s, F> {
        // SAFETY: the field lies within the `T`, whose address and length stay far below 2^64.
        let address = unsafe { NonZeroU64::new_unchecked(self.address.get().wrapping_add(field.offset())) };
        Ptr { address, target: PhantomData }
    }

    /// The value as a span of one.
    #[inline]
    #[must_use]
    pub const fn as_span(self) -> Span<'s, T> {
        Span { address: self.address.get(), len: 1, target: PhantomData }
    }
}

impl<'s, T> Ptr<'s, InvPtr<T>> {
    /// The pointer's bits as a word.
    #[inline(always)]
    pub(crate) const fn bits(self) -> Ptr<'s, u64> {
        Ptr { address: self.address, target: PhantomData }
    }
}

impl<'s, T: Stored, const N: usize> Ptr<'s, [T; N]> {
    /// An element's place; None beyond the end.
    #[inline(always)]
    #[must_use]
    pub fn index(self, index: usize) -> Option<Ptr<'s, T>> {
        (index < N).then(|| {
            let offset = index as u64 * size_of::<T>() as u64;
            // SAFETY: the element lies within the array, whose address and length stay far below 2^64.
            let address = unsafe { NonZeroU64::new_unchecked(self.address.get().wrapping_add(offset)) };
            Ptr { address, target: PhantomData }
        })
    }

    /// All elements.
    #[inline]
    #[must_use]
    pub const fn span(self) -> Span<'s, T> {
        Span { address: self.address.get(), len: N as u64, target: PhantomData }
    }
}

/// Several values in a row, resolved. The invariant of [`Ptr`] holds for each of them.
pub struct Span<'s, T> {
    address: u64,
    len: u64,
    target: PhantomData<Borrowed<'s, T>>,
}

/// Resolved bytes.
pub type Bytes<'s> = Span<'s, u8>;

impl<T> Clone for Span<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Span<'_, T> {}
impl<T> fmt::Debug for Span<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}+{}", self.address, self.len)
    }
}

impl<'s, T: Stored> Span<'s, T> {
    /// No values.
    pub const EMPTY: Self = Self { address: 0, len: 0, target: PhantomData };

    /// # Safety
    /// The module's invariant holds for each of `len` values from `address`; any address will do for none.
    #[inline]
    pub(crate) const unsafe fn new(address: u64, len: u64) -> Self {
        Self { address, len, target: PhantomData }
    }

    /// Number of values.
    #[inline]
    #[must_use]
    pub const fn len(self) -> u64 {
        self.len
    }

    /// True without values.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Address of the first; meaningless when empty.
    #[inline]
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Bytes of all.
    #[inline]
    #[must_use]
    pub const fn len_bytes(self) -> u64 {
        self.len * size_of::<T>() as u64
    }

    /// A value's place; None beyond the end.
    #[inline]
    #[must_use]
    pub fn index(self, index: u64) -> Option<Ptr<'s, T>> {
        if index >= self.len {
            return None;
        }
        let address = NonZeroU64::new(self.address + index * size_of::<T>() as u64)?;
        Some(Ptr { address, target: PhantomData })
    }

    /// Part of the span; None where `from + len` is beyond the end.
    #[must_use]
    pub fn slice(self, from: u64, len: u64) -> Option<Self> {
        let end = from.checked_add(len)?;
        (end <= self.len).then(|| Self {
            address: self.address + from * size_of::<T>() as u64,
            len,
            target: PhantomData,
        })
    }

    /// The same memory as bytes. Not of what holds pointers, whose bits would mean something else elsewhere.
    #[inline]
    #[must_use]
    pub const fn as_bytes(self) -> Bytes<'s>
    where
        T: Value,
    {
        self.memory()
    }

    /// The same memory as bytes, whatever lies there.
    #[inline]
    pub(crate) const fn memory(self) -> Bytes<'s> {
        Span { address: self.address, len: self.len_bytes(), target: PhantomData }
    }
}

/// An object as a mapped range: which of the mapped ones, but not of what type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Area<'s> {
    start: u64,
    space: PhantomData<&'s ()>,
}

impl<'s> Area<'s> {
    /// # Safety
    /// `start` is the first address of an object's mapping that lives for `'s`.
    pub(crate) const unsafe fn new(start: u64) -> Self {
        Self { start, space: PhantomData }
    }

    /// First address: that of the null page.
    #[inline]
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// How far the object may reach: 1 GiB, or 512 GiB for a large one.
    #[inline]
    #[must_use]
    pub const fn range_bytes(self) -> u64 {
        range_bytes(self.start)
    }

    /// True for an address in the object's range.
    #[inline]
    pub(crate) const fn contains(self, address: u64) -> bool {
        address.wrapping_sub(self.start) < self.range_bytes()
    }

    /// The place of a `T` at `offset`.
    #[inline]
    #[must_use]
    pub fn place<T: Stored>(self, offset: u64) -> Option<Ptr<'s, T>> {
        if !Want::one::<T>().fits(offset, self.range_bytes()) {
            return None;
        }
        // SAFETY: ranges end far below 2^64, and an offset that fits is not 0.
        let address = unsafe { NonZeroU64::new_unchecked(self.start + offset) };
        // SAFETY: a `T`'s bytes lie there within the range, beyond the metadata, aligned.
        Some(unsafe { Ptr::new(address) })
    }

    /// The places of `len` values from `offset`, which must lie at the base or beyond.
    #[must_use]
    pub fn span<T: Stored>(self, offset: u64, len: u64) -> Option<Span<'s, T>> {
        self.span_from(BASE_OFFSET, offset, len)
    }

    /// The same, where `lowest` is the lowest offset that will do.
    pub(crate) fn span_from<T: Stored>(self, lowest: u64, offset: u64, len: u64) -> Option<Span<'s, T>> {
        const { assert_has_bytes::<T>() };
        let len_bytes = len.checked_mul(size_of::<T>() as u64)?;
        let end = offset.checked_add(len_bytes)?;
        // What has no length lies in the object too.
        let is_inside = offset >= lowest && offset < self.range_bytes() && end <= self.range_bytes();
        let fits = is_inside && offset.is_multiple_of(align_of::<T>() as u64);
        fits.then(|| Span { address: self.start + offset, len, target: PhantomData })
    }
}

/// Does not compile for a type without bytes: one could lie behind the end of an object, where another one begins.
pub(crate) const fn assert_has_bytes<T>() {
    assert!(size_of::<T>() > 0, "a type of size 0 has no place in an object");
}

/// A typed object: its base is a `T`.
pub struct Object<'s, T> {
    area: Area<'s>,
    root: PhantomData<fn() -> T>,
}

impl<T> Clone for Object<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Object<'_, T> {}
impl<T> fmt::Debug for Object<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object at {:#x}", self.area.start)
    }
}

impl<'s, T: Stored> Object<'s, T> {
    const ROOT_FITS: () = assert!(
        BASE_OFFSET + size_of::<T>() as u64 <= SLOT_BYTES
            && BASE_OFFSET.is_multiple_of(align_of::<T>() as u64),
        "the root type must fit an object"
    );

    /// The object of that area, whose type was checked.
    pub(crate) const fn new(area: Area<'s>) -> Self {
        let () = Self::ROOT_FITS;
        Self { area, root: PhantomData }
    }

    /// The typed root.
    #[must_use]
    pub fn base(self) -> Ptr<'s, T> {
        let address = NonZeroU64::MIN.saturating_add(self.area.start + BASE_OFFSET - 1);
        Ptr { address, target: PhantomData }
    }

    /// The object without its type.
    #[must_use]
    pub const fn area(self) -> Area<'s> {
        self.area
    }
}
