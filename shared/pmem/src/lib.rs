//! What persistent memory promises.
//!
//! [`Persist`] is a region of memory that outlives a power cut: loads, stores, cache-line flushes and
//! fences. Everything durable is generic over it, so that the crash simulator can record each step and
//! enumerate what a power cut may leave. The promise is x86's: an aligned 8-byte store is atomic; a
//! store is durable once its line was flushed afterwards and a fence has followed the flush; until then
//! each line may reach media at any time, as it stood at any moment (Intel SDM volume 1, section 11.4.2
//! on CLWB; volume 3, section 12.2 on ordering).
//!
//! Unsafe code is in two places: the access to mapped memory ([`mapped`]) and the instructions that write cache lines back ([`cache`]).
#![no_std]

pub mod cache;
pub mod mapped;

use core::fmt;
use core::ops::Range;

/// Bytes of a cache line.
pub const LINE_BYTES: u64 = 64;

/// The media can't be read at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// First offset that can't be read.
    pub at: u64,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "media unreadable at {:#x}", self.at)
    }
}

/// A region of memory, addressed by offsets in bytes from its start.
///
/// Words are 8 bytes, aligned, and accessed atomically: loads acquire, stores release. Bulk access is not
/// atomic beyond single words and is meant for memory that nobody else uses, or whose values may be torn.
///
/// # Panics
/// Every method panics for an offset that is not in the region or a word that is not aligned: whoever
/// computes offsets from what lies on media must check them first.
pub trait Persist {
    /// Bytes of the region.
    fn len_bytes(&self) -> u64;

    /// Loads a word.
    fn load(&self, at: u64) -> u64;

    /// Stores a word. Not durable before [`Persist::flush`] and [`Persist::fence`].
    fn store(&self, at: u64, value: u64);

    /// Stores `new` if the word is `old`.
    ///
    /// # Errors
    /// The word's value, if it is another.
    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64>;

    /// Copies bytes out.
    fn read(&self, at: u64, buffer: &mut [u8]);

    /// Copies bytes in.
    fn write(&self, at: u64, bytes: &[u8]);

    /// Writes zeros.
    fn zero(&self, at: u64, len_bytes: u64);

    /// Starts writing back every line that holds a byte of the range.
    fn flush(&self, at: u64, len_bytes: u64);

    /// Waits until all that was flushed is durable.
    fn fence(&self);

    /// Tells whether the range can be read at all. To be asked before reading what lies on media.
    ///
    /// # Errors
    /// The first offset that can't be read.
    fn check_readable(&self, at: u64, len_bytes: u64) -> Result<(), Unreadable> {
        let _ = (at, len_bytes);
        Ok(())
    }

    /// Makes sure that there is room for what will be stored to a range that nobody uses yet. False: there is none. Memory has it; a sparse file has
    /// it where its disk has.
    fn make_room(&self, at: u64, len_bytes: u64) -> bool {
        let _ = (at, len_bytes);
        true
    }

    /// The next range, from `from` on, that is known to have room: to be asked where some had none.
    fn next_with_room(&self, from: u64) -> Option<Range<u64>> {
        (from < self.len_bytes()).then(|| from..self.len_bytes())
    }

    /// Flushes the range and waits.
    fn persist(&self, at: u64, len_bytes: u64) {
        self.flush(at, len_bytes);
        self.fence();
    }
}

impl<P: Persist + ?Sized> Persist for &P {
    fn len_bytes(&self) -> u64 {
        (**self).len_bytes()
    }
    fn load(&self, at: u64) -> u64 {
        (**self).load(at)
    }
    fn store(&self, at: u64, value: u64) {
        (**self).store(at, value);
    }
    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        (**self).compare_exchange(at, old, new)
    }
    fn read(&self, at: u64, buffer: &mut [u8]) {
        (**self).read(at, buffer);
    }
    fn write(&self, at: u64, bytes: &[u8]) {
        (**self).write(at, bytes);
    }
    fn zero(&self, at: u64, len_bytes: u64) {
        (**self).zero(at, len_bytes);
    }
    fn flush(&self, at: u64, len_bytes: u64) {
        (**self).flush(at, len_bytes);
    }
    fn fence(&self) {
        (**self).fence();
    }
    fn check_readable(&self, at: u64, len_bytes: u64) -> Result<(), Unreadable> {
        (**self).check_readable(at, len_bytes)
    }
    fn make_room(&self, at: u64, len_bytes: u64) -> bool {
        (**self).make_room(at, len_bytes)
    }
    fn next_with_room(&self, from: u64) -> Option<Range<u64>> {
        (**self).next_with_room(from)
    }
}

/// Offsets of the lines that hold a byte of the range, ascending. Empty for an empty range.
pub fn lines(at: u64, len_bytes: u64) -> impl Iterator<Item = u64> + Clone {
    let first = at / LINE_BYTES;
    let end = if len_bytes == 0 { first } else { (at + (len_bytes - 1)) / LINE_BYTES + 1 };
    (first..end).map(|line| line * LINE_BYTES)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn lines_are_those_of_every_byte() {
        for at in 0..3 * LINE_BYTES {
            for len in 0..4 * LINE_BYTES {
                let expected: BTreeSet<u64> =
                    (at..at + len).map(|byte| byte / LINE_BYTES * LINE_BYTES).collect();
                assert!(lines(at, len).eq(expected), "at {at} len {len}");
            }
        }
    }
}
