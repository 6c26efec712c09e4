//! What a transaction has staged: the new bytes of cache lines, by address.

use alloc::vec::Vec;

use hashbrown::HashMap;

/// Bytes of a line.
pub const LINE: u64 = 64;

/// New bytes of one cache line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Bit n: byte n is new.
    pub mask: u64,
    /// The bytes; those that are not new are anything.
    pub bytes: [u8; LINE as usize],
}

impl Line {
    const EMPTY: Self = Self { mask: 0, bytes: [0; LINE as usize] };

    /// Runs of new bytes: (first, length).
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        let mask = self.mask;
        let mut at = 0;
        core::iter::from_fn(move || {
            let rest = mask.checked_shr(at)?;
            if rest == 0 {
                return None;
            }
            let first = at + rest.trailing_zeros();
            let len = (!(mask >> first)).trailing_zeros();
            at = first + len;
            Some((u64::from(first), u64::from(len)))
        })
    }
}

/// All that is staged.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// In the order in which they were first touched.
    lines: Vec<(u64, Line)>,
    by_address: HashMap<u64, u32>,
}

impl Overlay {
    pub(crate) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Lines with their addresses.
    pub(crate) fn lines(&self) -> &[(u64, Line)] {
        &self.lines
    }

    /// Stages bytes.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        for (line, at, part) in parts(address, bytes.len()) {
            let lines = &mut self.lines;
            let index = *self.by_address.entry(line).or_insert_with(|| {
                lines.push((line, Line::EMPTY));
                (lines.len() - 1) as u32
            });
            let entry = &mut lines[index as usize].1;
            let len = part.len();
            entry.bytes[at..at + len].copy_from_slice(&bytes[part]);
            entry.mask |= mask_of(at, len);
        }
    }

    /// True if anything of the range's lines is staged.
    pub(crate) fn holds(&self, address: u64, len_bytes: u64) -> bool {
        !self.is_empty()
            && (address / LINE..(address + len_bytes).div_ceil(LINE))
                .any(|line| self.by_address.contains_key(&(line * LINE)))
    }

    /// Puts what is staged over what was read from memory.
    #[inline]
    pub(crate) fn patch(&self, address: u64, bytes: &mut [u8]) {
        if self.lines.is_empty() {
            return;
        }
        for (line, at, part) in parts(address, bytes.len()) {
            let Some(&index) = self.by_address.get(&line) else { continue };
            let entry = &self.lines[index as usize].1;
            let wanted = mask_of(at, part.len());
            if entry.mask & wanted == wanted {
                let len = part.len();
                bytes[part].copy_from_slice(&entry.bytes[at..at + len]);
            } else if entry.mask & wanted != 0 {
                for (i, byte) in part.enumerate() {
                    if entry.mask >> (at + i) & 1 != 0 {
                        bytes[byte] = entry.bytes[at + i];
                    }
                }
            }
        }
    }
}

/// Bits `at..at + len`.
fn mask_of(at: usize, len: usize) -> u64 {
    if len == LINE as usize { u64::MAX } else { ((1 << len) - 1) << at }
}

/// The parts of a range: (line's address, first byte in the line, range of the caller's bytes).
fn parts(address: u64, len: usize) -> impl Iterator<Item = (u64, usize, core::ops::Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = (address + done as u64) % LINE;
        let line = address + done as u64 - at;
        let part = done..(done + (LINE - at) as usize).min(len);
        done = part.end;
        Some((line, at as usize, part))
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    #[test]
    fn runs_are_the_new_bytes() {
        let line = |mask| Line { mask, ..Line::EMPTY };
        assert!(line(0).runs().eq([]));
        assert!(line(u64::MAX).runs().eq([(0, 64)]));
        assert!(line(0xff00_0000_0000_0001).runs().eq([(0, 1), (56, 8)]));
        assert!(line(0b0110).runs().eq([(1, 2)]));
    }

    proptest! {
        #[test]
        fn reads_see_the_last_write(writes in prop::collection::vec((0u64..300, prop::collection::vec(any::<u8>(), 0..150)), 0..20),
            reads in prop::collection::vec((0u64..300, 0usize..150), 0..20)) {
            let mut model = vec![7u8; 512];
            let mut overlay = Overlay::default();
            for (at, bytes) in &writes {
                overlay.write(*at, bytes);
                model[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
            }
            for (at, len) in reads {
                let mut seen = vec![7u8; len];
                overlay.patch(at, &mut seen);
                prop_assert_eq!(&seen[..], &model[at as usize..at as usize + len]);
            }
        }
    }
}
