//! What a transaction has staged: the new bytes of cache lines, by address.

use alloc::vec::Vec;

use crate::memory::prefetch;
use crate::pointer::Ptr;
use crate::stored::Stored;

/// What must be stored after what, for readers without locks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    /// Pointers to what is new.
    Pointer,
    /// Numbers of versions. A map's number follows, in the object, what must be stored before it; so those at lower addresses come first.
    Version,
}

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
    pub(super) const EMPTY: Self = Self { mask: 0, bytes: [0; LINE as usize] };

    #[inline]
    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.mask |= mask_of(at, bytes.len());
    }

    /// Puts another's new bytes over its own.
    pub(super) fn merge(&mut self, newer: &Self) {
        for (first, len) in newer.runs() {
            let (first, len) = (first as usize, len as usize);
            self.write(first, &newer.bytes[first..first + len]);
        }
    }

    /// Puts new bytes over those that were read from the line, `at` bytes into it.
    pub(super) fn patch(&self, at: usize, bytes: &mut [u8]) {
        let wanted = mask_of(at, bytes.len());
        if self.mask & wanted == wanted {
            bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        } else if self.mask & wanted != 0 {
            for (i, byte) in bytes.iter_mut().enumerate() {
                if self.mask >> (at + i) & 1 != 0 {
                    *byte = self.bytes[at + i];
                }
            }
        }
    }

    /// Words with new bytes: which of the eight, their bytes, and which of those are new.
    #[inline]
    pub(crate) fn words(&self) -> impl Iterator<Item = (usize, &[u8; 8], u8)> {
        let mut rest = self.mask;
        core::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let number = (rest.trailing_zeros() / 8) as usize;
            let new = (rest >> (8 * number)) as u8;
            rest &= !(0xff << (8 * number));
            Some((number, self.bytes.as_chunks::<8>().0.get(number)?, new))
        })
    }

    /// Runs of new bytes: (first, length).
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        runs_of(self.mask)
    }
}

/// Runs of bits that are set: (first, length).
#[inline]
pub(crate) fn runs_of(mask: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut rest = mask;
    core::iter::from_fn(move || {
        if rest == 0 {
            return None;
        }
        let first = rest.trailing_zeros();
        let len = (!(rest >> first)).trailing_zeros();
        // The carry goes through the whole run, which is then gone.
        rest &= rest.wrapping_add(1 << first);
        Some((u64::from(first), u64::from(len)))
    })
}

/// All that is staged. Few lines are searched one by one, many by a table of hashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    /// In the order in which they were first touched.
    lines: Vec<(u64, Line)>,
    /// Empty for few lines. Otherwise at least twice as many words as lines, a power of two: the line's number plus one, at the hash of
    /// its address or after it.
    table: Vec<u32>,
    /// Which lines there may be, a bit for every 64th: so that one that is not there is mostly not looked for.
    hints: u64,
}

/// So many lines are searched one by one.
const FEW: usize = 8;

impl Overlay {
    pub(crate) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// False where nothing is staged of a place.
    #[inline(always)]
    pub(crate) fn may_have<T: Stored>(&self, place: Ptr<'_, T>) -> bool {
        if size_of::<T>() <= align_of::<T>() && size_of::<T>() <= LINE as usize {
            // It lies in one line.
            self.hints >> (place.address() / LINE % 64) & 1 != 0
        } else {
            self.may_have_bytes(place.address(), size_of::<T>())
        }
    }

    /// The same of bytes.
    #[inline]
    const fn may_have_bytes(&self, address: u64, len: usize) -> bool {
        if self.hints == 0 || len == 0 {
            return false;
        }
        let lines = (address % LINE + len as u64).div_ceil(LINE);
        let wanted = if lines < 64 { (1 << lines) - 1 } else { u64::MAX };
        self.hints & u64::rotate_left(wanted, (address / LINE % 64) as u32) != 0
    }

    /// Puts these lines behind all others, in their order: the last time that one is named counts. Nothing is staged or looked up after that.
    pub(crate) fn put_last(&mut self, published: &[(Rank, u64)]) {
        if self.table.is_empty() {
            // Few lines: moved one by one, without memory.
            for &(_, address) in published {
                if let Some(index) = self.find(address) {
                    self.lines[index..].rotate_left(1);
                }
            }
            return;
        }
        let mut last = Vec::with_capacity(published.len());
        for &(_, address) in published.iter().rev() {
            if let Some(index) = self.find(address)
                && self.lines[index].1.mask != 0
            {
                last.push(self.lines[index]);
                // Staged lines have new bytes; so this one is known to be taken out.
                self.lines[index].1.mask = 0;
            }
        }
        self.lines.retain(|(_, line)| line.mask != 0);
        self.lines.extend(last.into_iter().rev());
    }

    /// Lines with their addresses.
    pub(crate) fn lines(&self) -> &[(u64, Line)] {
        &self.lines
    }

    /// Gives up all lines.
    pub(super) fn take_lines(&mut self) -> Vec<(u64, Line)> {
        self.table.clear();
        self.hints = 0;
        core::mem::take(&mut self.lines)
    }

    /// Forgets everything but keeps the memory, unless it is much.
    pub(crate) fn clear(&mut self) {
        const MUCH: usize = 4096;
        self.table.clear();
        self.lines.clear();
        self.hints = 0;
        if self.lines.capacity() > MUCH {
            *self = Self::default();
        }
    }

    #[inline]
    fn find(&self, line: u64) -> Option<usize> {
        if self.may_have_bytes(line, 1) { self.look_for(line) } else { None }
    }

    fn look_for(&self, line: u64) -> Option<usize> {
        if self.table.is_empty() {
            return self.lines.iter().position(|&(address, _)| address == line);
        }
        let mask = self.table.len() - 1;
        let mut at = slot_of(line, mask);
        loop {
            match self.table[at] {
                0 => return None,
                number if self.lines[number as usize - 1].0 == line => return Some(number as usize - 1),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn add(&mut self, line: u64) -> usize {
        let index = self.lines.len();
        self.hints |= 1 << (line / LINE % 64);
        prefetch(line);
        self.lines.push((line, Line::EMPTY));
        if index + 1 > FEW && (index + 1) * 2 > self.table.len() {
            let size = (self.lines.len() * 4).next_power_of_two();
            self.table.clear();
            self.table.resize(size, 0);
            for index in 0..self.lines.len() {
                self.enter(index);
            }
        } else if !self.table.is_empty() {
            self.enter(index);
        }
        index
    }

    /// Enters a line into the table.
    fn enter(&mut self, index: usize) {
        let mask = self.table.len() - 1;
        let mut at = slot_of(self.lines[index].0, mask);
        while self.table[at] != 0 {
            at = (at + 1) & mask;
        }
        self.table[at] = index as u32 + 1;
    }

    /// Stages those of the bytes whose lines are staged already.
    pub(crate) fn rewrite(&mut self, address: u64, bytes: &[u8]) {
        if !self.may_have_bytes(address, bytes.len()) {
            return;
        }
        if self.table.is_empty() {
            for &mut (line, ref mut staged) in &mut self.lines {
                if let Some((at, part)) = common(line, address, bytes.len()) {
                    staged.write(at, &bytes[part]);
                }
            }
            return;
        }
        for (line, at, part) in parts(address, bytes.len()) {
            if let Some(index) = self.find(line) {
                self.lines[index].1.write(at, &bytes[part]);
            }
        }
    }

    /// Stages bytes.
    #[inline]
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        let at = (address % LINE) as usize;
        if (1..=LINE as usize - at).contains(&bytes.len()) {
            self.line(address - at as u64).write(at, bytes);
        } else {
            self.write_lines(address, bytes);
        }
    }

    fn write_lines(&mut self, address: u64, bytes: &[u8]) {
        for (line, at, part) in parts(address, bytes.len()) {
            self.line(line).write(at, &bytes[part]);
        }
    }

    /// The line at an address, staged from now on. Mostly, the one that was staged last.
    #[inline]
    fn line(&mut self, line: u64) -> &mut Line {
        let index = match self.lines.last() {
            Some(&(last, _)) if last == line => self.lines.len() - 1,
            _ => self.find(line).unwrap_or_else(|| self.add(line)),
        };
        &mut self.lines[index].1
    }

    /// Puts what is staged over what was read from memory.
    #[inline]
    pub(crate) fn patch(&self, address: u64, bytes: &mut [u8]) {
        if !self.may_have_bytes(address, bytes.len()) {
            return;
        }
        if self.table.is_empty() {
            for &(line, ref staged) in &self.lines {
                if let Some((at, part)) = common(line, address, bytes.len()) {
                    staged.patch(at, &mut bytes[part]);
                }
            }
            return;
        }
        for (line, at, part) in parts(address, bytes.len()) {
            if let Some(index) = self.find(line) {
                self.lines[index].1.patch(at, &mut bytes[part]);
            }
        }
    }
}

/// Where in a table a line is looked for first.
const fn slot_of(line: u64, mask: usize) -> usize {
    (line.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask
}

/// Bits `at..at + len`.
fn mask_of(at: usize, len: usize) -> u64 {
    if len == LINE as usize { u64::MAX } else { ((1 << len) - 1) << at }
}

/// What a line has in common with a range: (first byte in the line, range of the caller's bytes).
#[inline]
fn common(line: u64, address: u64, len: usize) -> Option<(usize, core::ops::Range<usize>)> {
    let (first, end) = (line.max(address), (line + LINE).min(address + len as u64));
    (first < end).then(|| ((first - line) as usize, (first - address) as usize..(end - address) as usize))
}

/// The parts of a range: (line's address, first byte in the line, range of the caller's bytes).
pub(super) fn parts(address: u64, len: usize) -> impl Iterator<Item = (u64, usize, core::ops::Range<usize>)> {
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

    #[test]
    fn what_is_published_comes_last_and_versions_behind_pointers() {
        for lines in [5, 40] {
            let mut overlay = Overlay::default();
            for n in 0..lines {
                overlay.write(n * LINE, &[n as u8]);
            }
            let mut published = [
                (Rank::Version, 3 * LINE),
                (Rank::Pointer, LINE),
                (Rank::Version, 0),
                (Rank::Pointer, 3 * LINE),
            ];
            published.sort_unstable();
            overlay.put_last(&published);
            let order: Vec<u64> = overlay.lines().iter().map(|(address, _)| address / LINE).collect();
            let others = (0..lines).filter(|n| ![0, 1, 3].contains(n));
            assert!(order.into_iter().eq(others.chain([1, 0, 3])));
        }
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
