//! A set of numbers that finds its next member without a scan: bits, and bits over words of bits.

use alloc::vec::Vec;

use crate::error::Error;

/// Members below a fixed end. Finding and changing touch one word for each level: four for 16 million numbers.
#[derive(Debug)]
pub(super) struct BitSet {
    /// `levels[0]` are the members; a bit of `levels[n + 1]` says whether a word of `levels[n]` is not 0.
    levels: Vec<Vec<u64>>,
}

impl BitSet {
    /// No members yet, all below `end`.
    pub(super) fn new(end: usize) -> Result<Self, Error> {
        let mut levels = Vec::new();
        let mut words = end.div_ceil(64).max(1);
        loop {
            levels.push(zeros(words)?);
            if words == 1 {
                return Ok(Self { levels });
            }
            words = words.div_ceil(64);
        }
    }

    pub(super) fn insert(&mut self, number: usize) {
        let mut number = number;
        for level in &mut self.levels {
            let was = level[number / 64];
            level[number / 64] |= 1 << (number % 64);
            if was != 0 {
                return;
            }
            number /= 64;
        }
    }

    pub(super) fn remove(&mut self, number: usize) {
        let mut number = number;
        for level in &mut self.levels {
            level[number / 64] &= !(1 << (number % 64));
            if level[number / 64] != 0 {
                return;
            }
            number /= 64;
        }
    }

    /// The least member from `from` on, or else the least of all.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        self.at_least(from).or_else(|| self.at_least(0))
    }

    fn at_least(&self, from: usize) -> Option<usize> {
        // Up, until a word has a member at or after the place; then down along first members.
        let mut place = from;
        for (depth, level) in self.levels.iter().enumerate() {
            let word = level.get(place / 64).copied().unwrap_or(0) & (u64::MAX << (place % 64));
            if word != 0 {
                let mut found = place / 64 * 64 + word.trailing_zeros() as usize;
                for below in self.levels[..depth].iter().rev() {
                    found = found * 64 + below[found].trailing_zeros() as usize;
                }
                return Some(found);
            }
            place = place / 64 + 1;
        }
        None
    }
}

fn zeros(len: usize) -> Result<Vec<u64>, Error> {
    let mut words = Vec::new();
    words.try_reserve_exact(len).map_err(|_| Error::OutOfMemory)?;
    words.resize(len, 0);
    Ok(words)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_tree_set(end in 1usize..20_000, steps in prop::collection::vec((any::<bool>(), any::<usize>(), any::<usize>()), 1..200)) {
            let mut bits = BitSet::new(end).expect("heap");
            let mut model = BTreeSet::new();
            for (insert, number, from) in steps {
                let (number, from) = (number % end, from % end);
                if insert {
                    bits.insert(number);
                    model.insert(number);
                } else {
                    bits.remove(number);
                    model.remove(&number);
                }
                let expected = model.range(from..).next().or_else(|| model.first()).copied();
                prop_assert_eq!(bits.next(from), expected);
            }
        }
    }
}
