//! Every access to object memory that the library makes.
//!
//! Others may write an object while we read it, so memory is accessed by relaxed atomic words, halves and bytes,
//! never through `&T`. All stores are here, and each is told to the backend after it happened.
//!
//! Invariant of the callers: a `Ptr` or `Span` guarantees what the functions ask for. See
//! `docs/decisions/references.md`.

use core::mem::MaybeUninit;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use crate::backend::Backend;
use crate::pointer::{Ptr, Span};
use crate::stored::{Stored, Value};
use crate::tx::overlay::{LINE, Line, runs_of};

/// # Safety
/// `address` is aligned and readable as an `A` in mapped object memory.
#[inline(always)]
unsafe fn atom<A>(address: u64) -> &'static A {
    // SAFETY: forwarded; atomics are shared references to memory that others may change. The reference doesn't
    // outlive the caller's expression.
    unsafe { &*with_exposed_provenance::<A>(address as usize) }
}

/// The word at a place, to wait on.
pub(crate) fn word(place: Ptr<'_, u64>) -> &AtomicU64 {
    // SAFETY: a place is aligned and lies in an object that is mapped as long as the place may be used; all access is by atomics.
    unsafe { atom(place.address()) }
}

/// Reads a value.
#[inline(always)]
pub(crate) fn load<T: Value>(place: Ptr<'_, T>) -> T {
    const { T::LAYOUT }
    let mut value = MaybeUninit::<T>::uninit();
    let (from, to) = (place.address(), value.as_mut_ptr().cast());
    if align_of::<T>() == 1 {
        // SAFETY: the pointer's invariant covers `size_of::<T>()` bytes; the buffer has as many.
        unsafe { bytes_out(from, to, size_of::<T>()) };
    } else {
        // SAFETY: as above.
        unsafe { copy_out(from, to, size_of::<T>(), align_of::<T>()) };
    }
    // SAFETY: all bytes are initialised, and every bit pattern is a `T`.
    unsafe { value.assume_init() }
}

/// A value of zeros.
pub(crate) fn zeroed<T: Value>() -> T {
    const { T::LAYOUT }
    // SAFETY: every bit pattern is a `T`.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// Reads bytes; the buffer is as long as the span.
pub(crate) fn read(from: Span<'_, u8>, buffer: &mut [u8]) {
    assert_eq!(from.len(), buffer.len() as u64, "the caller made the lengths equal");
    // SAFETY: the span's invariant covers its bytes; the buffer has as many.
    unsafe { copy_out(from.address(), buffer.as_mut_ptr(), buffer.len(), 1) };
}

/// Stores a value; not durable before flush and fence.
#[inline(always)]
pub(crate) fn store<T: Value>(backend: &impl Backend, place: Ptr<'_, T>, value: &T) {
    const { T::LAYOUT }
    // SAFETY: the pointer's invariant covers `size_of::<T>()` bytes, of which the value has as many, all initialised since there is
    // no padding.
    unsafe { copy_in(place.address(), core::ptr::from_ref(value).cast(), size_of::<T>(), align_of::<T>()) };
    backend.stored(place.address(), size_of::<T>() as u64);
}

/// Stores bytes, as many as the span has.
pub(crate) fn write(backend: &impl Backend, to: Span<'_, u8>, bytes: &[u8]) {
    assert_eq!(to.len(), bytes.len() as u64, "the caller made the lengths equal");
    // SAFETY: the span's invariant covers its bytes, of which the slice has as many.
    unsafe { copy_in(to.address(), bytes.as_ptr(), bytes.len(), 1) };
    backend.stored(to.address(), bytes.len() as u64);
}

/// Stores a line's new bytes, word by word; to the span of that line.
pub(crate) fn write_line(backend: &impl Backend, to: Span<'_, u8>, line: &Line) {
    assert!(to.len() == LINE && to.address().is_multiple_of(LINE), "the caller looked whether it is one");
    if line.mask == u64::MAX {
        // SAFETY: the span's invariant covers the line, of which the copy has as many bytes.
        unsafe { copy_in(to.address(), line.bytes.as_ptr(), LINE as usize, 8) };
        return backend.stored(to.address(), LINE);
    }
    for (number, bytes, new) in line.words() {
        let address = to.address() + number as u64 * 8;
        // Pairs with the acquire of who reads without locks: words are stored one after the other.
        fence(Ordering::Release);
        if new == u8::MAX {
            // SAFETY: the span's invariant covers the line, which begins at a multiple of its length, so this is an aligned word of it. The copy has as many bytes.
            unsafe { in8(address, bytes.as_ptr()) };
        } else {
            for (first, len) in runs_of(new.into()) {
                // SAFETY: as above, for some bytes of the word.
                unsafe { copy_in(address + first, bytes[first as usize..].as_ptr(), len as usize, 1) };
            }
        }
        backend.stored(address, 8);
    }
}

/// Stores words, as many as the span has.
pub(crate) fn write_words(backend: &(impl Backend + ?Sized), to: Span<'_, u64>, words: &[u64]) {
    assert_eq!(to.len(), words.len() as u64, "the caller made the lengths equal");
    // SAFETY: the span's invariant covers its words, of which the slice has as many.
    unsafe { copy_in(to.address(), words.as_ptr().cast(), size_of_val(words), 8) };
    backend.stored(to.address(), to.len_bytes());
}

/// Starts writing back all lines of a span.
#[inline]
pub(crate) fn flush<T: Stored>(backend: &(impl Backend + ?Sized), span: Span<'_, T>) {
    // SAFETY: a span lies in an object that is mapped as long as the span may be used.
    unsafe { backend.flush(span.address(), span.len_bytes()) };
}

/// A value's bytes.
#[inline(always)]
pub(crate) fn bytes_of<T: Value>(value: &T) -> &[u8] {
    const { T::LAYOUT }
    // SAFETY: a stored type has no padding, so all its bytes are initialised; they live as long as the value.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// A value's bytes, to be changed.
#[inline(always)]
pub(crate) fn bytes_of_mut<T: Value>(value: &mut T) -> &mut [u8] {
    const { T::LAYOUT }
    // SAFETY: as in `bytes_of`; whatever is written, every bit pattern is a `T`.
    unsafe { core::slice::from_raw_parts_mut(core::ptr::from_mut(value).cast(), size_of::<T>()) }
}

/// Stores zeros.
pub(crate) fn zero(backend: &impl Backend, to: Span<'_, u8>) {
    const ZEROS: [u8; 256] = [0; 256];
    let mut at = 0;
    while at < to.len() {
        let len = (to.len() - at).min(ZEROS.len() as u64);
        // SAFETY: the span's invariant covers its bytes; `ZEROS` has `len`.
        unsafe { copy_in(to.address() + at, ZEROS.as_ptr(), len as usize, 1) };
        at += len;
    }
    backend.stored(to.address(), to.len());
}

/// The word at so many bytes of a row of the translation table.
///
/// # Safety
/// It lies within the table, at an address that is a multiple of eight.
#[inline(always)]
unsafe fn row_word(row: u64, bytes: u64) -> &'static AtomicU64 {
    // Added as a pointer, not as a number: the compiler then leaves this addition to the load, as the row is known earlier than the word.
    let word = with_exposed_provenance::<u8>(row as usize).wrapping_add(bytes as usize);
    // SAFETY: forwarded; atomics are shared references to memory that others may change.
    unsafe { &*word.cast() }
}

/// Starts fetching a line that will be stored to soon: one that was written back may have left the caches.
#[inline(always)]
pub(crate) fn prefetch(address: u64) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint, which never faults, whatever the address (Intel SDM, PREFETCHh).
    unsafe { _mm_prefetch::<_MM_HINT_T0>(with_exposed_provenance(address as usize)) };
}

/// Loads a word of the translation table. Acquire pairs with the release in [`store_row`]: who sees an object in a row sees what is known of it.
///
/// # Safety
/// As of [`row_word`].
#[inline(always)]
pub(crate) unsafe fn load_row(row: u64, bytes: u64) -> u64 {
    // SAFETY: forwarded.
    unsafe { row_word(row, bytes) }.load(Ordering::Acquire)
}

/// Stores a word of the translation table: volatile memory, so no backend is told.
///
/// # Safety
/// As of [`row_word`].
pub(crate) unsafe fn store_row(row: u64, bytes: u64, value: u64) {
    // SAFETY: forwarded.
    unsafe { row_word(row, bytes) }.store(value, Ordering::Release);
}

macro_rules! copies {
    ($out:ident, $in:ident, $atomic:ty, $plain:ty) => {
        /// # Safety
        /// `address` is an aligned atom of mapped object memory; `to` may be written, aligned or not.
        #[inline(always)]
        unsafe fn $out(address: u64, to: *mut u8) {
            // SAFETY: forwarded.
            let value = unsafe { atom::<$atomic>(address) }.load(Ordering::Relaxed);
            // SAFETY: forwarded.
            unsafe { to.cast::<$plain>().write_unaligned(value) };
        }

        /// # Safety
        /// `address` is an aligned atom of mapped, writable object memory; `from` may be read, aligned or not.
        #[inline(always)]
        unsafe fn $in(address: u64, from: *const u8) {
            // SAFETY: forwarded.
            let value = unsafe { from.cast::<$plain>().read_unaligned() };
            // SAFETY: forwarded. A relaxed store has no need of more than a shared reference.
            unsafe { atom::<$atomic>(address) }.store(value, Ordering::Relaxed);
        }
    };
}

copies!(out8, in8, AtomicU64, u64);
copies!(out4, in4, AtomicU32, u32);
copies!(out2, in2, AtomicU16, u16);
copies!(out1, in1, AtomicU8, u8);

/// Walks `len` bytes from `address` in the largest aligned pieces: `piece(offset, bytes)`. An aligned word is never cut. With an alignment known at
/// compile time, the tests fold away.
#[inline(always)]
fn pieces(address: u64, len: usize, align: usize, mut piece: impl FnMut(usize, usize)) {
    let mut at = 0;
    if align < 8 {
        while at < len && !(address + at as u64).is_multiple_of(8) {
            let bytes = if align >= 4 { 4 } else { 1 << (address + at as u64).trailing_zeros() };
            if bytes > len - at {
                break;
            }
            piece(at, bytes);
            at += bytes;
        }
    }
    if len - at >= 64 {
        // Much: four words for each look at what is left.
        while len - at >= 32 {
            piece(at, 8);
            piece(at + 8, 8);
            piece(at + 16, 8);
            piece(at + 24, 8);
            at += 32;
        }
    }
    while len - at >= 8 {
        piece(at, 8);
        at += 8;
    }
    for bytes in [4, 2, 1] {
        if len - at >= bytes {
            piece(at, bytes);
            at += bytes;
        }
    }
}

macro_rules! loads {
    ($name:ident, $register:ident, $template:literal, $value:ty) => {
        /// Copies bytes that lie wherever they lie. By an instruction of our own, since Rust has no relaxed loads but aligned ones; to the compiler it
        /// is as good as one for each byte.
        ///
        /// # Safety
        /// As many bytes as the value has are mapped object memory at `address`, and may be written at `to`.
        #[inline(always)]
        unsafe fn $name(address: u64, to: *mut u8) {
            let value: $value;
            // SAFETY: forwarded; the instruction does nothing but load.
            unsafe {
                core::arch::asm!($template, value = out($register) value, from = in(reg) address,
                    options(nostack, preserves_flags, readonly));
            }
            // SAFETY: forwarded.
            unsafe { to.cast::<$value>().write_unaligned(value) };
        }
    };
}

#[cfg(target_feature = "sse2")]
loads!(bytes_out16, xmm_reg, "movdqu {value}, [{from}]", core::arch::x86_64::__m128i);
loads!(bytes_out8, reg, "mov {value}, [{from}]", u64);
loads!(bytes_out4, reg, "mov {value:e}, [{from}]", u32);
loads!(bytes_out2, reg, "movzx {value:e}, word ptr [{from}]", u16);

/// Copies what is bytes to its user too, and so may be torn anywhere, in few large pieces. As their number and places are known at compile time, values stay in
/// registers through whatever they are wrapped in.
///
/// # Safety
/// `len` bytes from `address` are mapped object memory; as many may be written from `to`.
#[inline(always)]
unsafe fn bytes_out(address: u64, to: *mut u8, len: usize) {
    type CopyOut = unsafe fn(u64, *mut u8);
    const COPIES: [(usize, CopyOut); 5] = [
        #[cfg(target_feature = "sse2")]
        (16, bytes_out16),
        #[cfg(not(target_feature = "sse2"))]
        (8, bytes_out8),
        (8, bytes_out8),
        (4, bytes_out4),
        (2, bytes_out2),
        (1, out1),
    ];
    let mut at = 0;
    for (piece, copy) in COPIES {
        while len - at >= piece {
            // SAFETY: the piece ends within `len`.
            let to = unsafe { to.add(at) };
            // SAFETY: as above, and the same for the address.
            unsafe { copy(address + at as u64, to) };
            at += piece;
        }
    }
}

/// # Safety
/// `len` bytes from `address`, which is aligned by `align`, are mapped object memory; as many may be written from `to`.
#[inline(always)]
unsafe fn copy_out(address: u64, to: *mut u8, len: usize, align: usize) {
    pieces(address, len, align, |at, bytes| {
        let from = address + at as u64;
        // SAFETY: `pieces` stays within `len`.
        let to = unsafe { to.add(at) };
        match bytes {
            // SAFETY: `pieces` gives aligned pieces within the range, whose sizes are those of the atoms. The same below.
            8 => unsafe { out8(from, to) },
            // SAFETY: as above.
            4 => unsafe { out4(from, to) },
            // SAFETY: as above.
            2 => unsafe { out2(from, to) },
            // SAFETY: as above.
            _ => unsafe { out1(from, to) },
        }
    });
}

/// # Safety
/// `len` bytes from `address`, which is aligned by `align`, are mapped, writable object memory; as many may be read from `from`.
#[inline(always)]
unsafe fn copy_in(address: u64, from: *const u8, len: usize, align: usize) {
    pieces(address, len, align, |at, bytes| {
        let to = address + at as u64;
        // SAFETY: `pieces` stays within `len`.
        let from = unsafe { from.add(at) };
        match bytes {
            // SAFETY: `pieces` gives aligned pieces within the range, whose sizes are those of the atoms. The same below.
            8 => unsafe { in8(to, from) },
            // SAFETY: as above.
            4 => unsafe { in4(to, from) },
            // SAFETY: as above.
            2 => unsafe { in2(to, from) },
            // SAFETY: as above.
            _ => unsafe { in1(to, from) },
        }
    });
}
