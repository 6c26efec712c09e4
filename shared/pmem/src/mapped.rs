//! Memory that is mapped, and that others may access at the same time.
//!
//! Words go through atomics; bulk copies go through string instructions, which the compiler can't look into. So
//! whoever writes at the same time can spoil values, never memory safety. Each byte is moved once, most of them as words:
//! an emulator takes as long for a byte as for a word.

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::Persist;

/// Copies memory that others may access.
///
/// # Safety
/// `from` is readable and `to` writable for `len_bytes`, and no reference that Rust knows of is invalidated by the write.
pub unsafe fn copy(from: *const u8, to: *mut u8, len_bytes: usize) {
    // SAFETY: the caller's promise; string instructions go up (System V ABI: DF = 0).
    unsafe {
        asm!("rep movsq", "mov rcx, {rest}", "rep movsb", rest = in(reg) len_bytes % 8,
            inout("rcx") len_bytes / 8 => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}

/// Writes zeros, like [`copy`].
///
/// # Safety
/// `to` is writable for `len_bytes`, and no reference that Rust knows of is invalidated by the write.
pub unsafe fn zero(to: *mut u8, len_bytes: usize) {
    // SAFETY: the caller's promise; string instructions go up (System V ABI: DF = 0).
    unsafe {
        asm!("rep stosq", "mov rcx, {rest}", "rep stosb", rest = in(reg) len_bytes % 8,
            inout("rcx") len_bytes / 8 => _, in("rax") 0_u64, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}

/// A range of mapped memory.
///
/// # Safety
/// The implementor promises, for as long as the value lives: `start` is always the same, aligned to 8 bytes; the
/// `len_bytes` from it on are mapped for reading and writing; and nobody holds a reference, but an atomic one, into what is
/// accessed through a [`Mapped`].
pub unsafe trait Region {
    /// The first byte.
    fn start(&self) -> *mut u8;

    /// Bytes of the range. It may grow.
    fn len_bytes(&self) -> u64;

    /// As [`Persist::make_room`].
    fn make_room(&self, at: u64, len_bytes: u64) -> bool {
        let _ = (at, len_bytes);
        true
    }

    /// As [`Persist::next_with_room`].
    fn next_with_room(&self, from: u64) -> Option<Range<u64>> {
        (from < self.len_bytes()).then(|| from..self.len_bytes())
    }
}

/// Mapped memory as a [`Persist`] region that needs no flushes: DRAM, or a file whose owner syncs it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Mapped<R>(R);

impl<R: Region> Mapped<R> {
    /// All of a range.
    pub const fn new(region: R) -> Self {
        Self(region)
    }

    /// The range.
    pub const fn region(&self) -> &R {
        &self.0
    }

    fn pointer(&self, at: u64, len_bytes: u64) -> *mut u8 {
        let fits = at.checked_add(len_bytes).is_some_and(|end| end <= self.0.len_bytes());
        assert!(fits, "{at:#x}+{len_bytes:#x} is not in the region");
        self.0.start().wrapping_add(at as usize)
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8), "{at:#x} is not aligned");
        // SAFETY: `pointer` has checked that the word lies in the region, which is mapped while `self` lives; it is
        // aligned as the region's start is.
        unsafe { AtomicU64::from_ptr(self.pointer(at, 8).cast()) }
    }
}

impl<R: Region> Persist for Mapped<R> {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }

    fn load(&self, at: u64) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: u64, value: u64) {
        self.word(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.word(at).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        let from = self.pointer(at, buffer.len() as u64);
        // SAFETY: checked to lie in the region; `buffer` is the caller's.
        unsafe { copy(from, buffer.as_mut_ptr(), buffer.len()) };
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let to = self.pointer(at, bytes.len() as u64);
        // SAFETY: checked to lie in the region, where no references but atomic ones are.
        unsafe { copy(bytes.as_ptr(), to, bytes.len()) };
    }

    fn zero(&self, at: u64, len_bytes: u64) {
        let to = self.pointer(at, len_bytes);
        // SAFETY: as in `write`.
        unsafe { zero(to, len_bytes as usize) };
    }

    fn make_room(&self, at: u64, len_bytes: u64) -> bool {
        self.0.make_room(at, len_bytes)
    }

    fn next_with_room(&self, from: u64) -> Option<Range<u64>> {
        self.0.next_with_room(from)
    }

    fn flush(&self, at: u64, len_bytes: u64) {
        let _ = self.pointer(at, len_bytes);
    }

    fn fence(&self) {}
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::cell::UnsafeCell;
    use std::vec::Vec;

    struct Words(UnsafeCell<[u64; 16]>);

    // SAFETY: the words live in the value, which doesn't move while it is borrowed, and nothing else refers to them.
    unsafe impl Region for Words {
        fn start(&self) -> *mut u8 {
            self.0.get().cast()
        }

        fn len_bytes(&self) -> u64 {
            128
        }
    }

    fn region() -> Mapped<Words> {
        Mapped::new(Words(UnsafeCell::new([0; 16])))
    }

    #[test]
    fn unaligned_bytes_are_as_in_an_array() {
        let data: Vec<u8> = (1..100).collect();
        for at in 0..17 {
            for len in 0..40 {
                let (mapped, mut model) = (region(), [0; 128]);
                mapped.write(at, &data);
                model[at as usize..][..data.len()].copy_from_slice(&data);
                mapped.zero(at + 3, len);
                model[at as usize + 3..][..len as usize].fill(0);
                let mut back = [0xff; 128];
                mapped.read(0, &mut back);
                assert_eq!(back, model, "at {at} len {len}");
            }
        }
    }

    #[test]
    fn words_are_exchanged() {
        let mapped = region();
        mapped.store(120, 7);
        assert_eq!(mapped.compare_exchange(120, 8, 9), Err(7));
        assert_eq!(mapped.compare_exchange(120, 7, 9), Ok(()));
        assert_eq!(mapped.load(120), 9);
    }

    #[test]
    #[should_panic(expected = "not in the region")]
    fn access_beyond_the_end_panics() {
        region().write(121, &[0; 8]);
    }

    #[test]
    #[should_panic(expected = "not aligned")]
    fn a_word_that_is_not_aligned_panics() {
        region().load(4);
    }
}
