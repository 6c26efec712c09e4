//! A region in the heap, for tests.

use std::sync::atomic::{AtomicU64, Ordering};

use twizzler_pmem::Persist;

/// Words in DRAM behind [`Persist`]. Flushes and fences do nothing: what is stored stays.
#[derive(Debug, Default)]
pub struct Memory {
    words: Vec<AtomicU64>,
}

impl Memory {
    /// A region of zeros.
    ///
    /// # Panics
    /// Where `len_bytes` is not a multiple of 8.
    #[must_use]
    pub fn zeroed(len_bytes: u64) -> Self {
        assert!(len_bytes.is_multiple_of(8), "a region is made of words");
        Self { words: (0..len_bytes / 8).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A region with these bytes, filled up to a whole word with zeros.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let memory = Self::zeroed((bytes.len() as u64).next_multiple_of(8));
        memory.write(0, bytes);
        memory
    }

    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.load(Ordering::Acquire).to_le_bytes()).collect()
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8), "a word is aligned");
        &self.words[(at / 8) as usize]
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self { words: self.words.iter().map(|word| AtomicU64::new(word.load(Ordering::Acquire))).collect() }
    }
}

impl Persist for Memory {
    fn len_bytes(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    fn load(&self, at: u64) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    fn store(&self, at: u64, value: u64) {
        self.word(at).store(value, Ordering::Release);
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        self.word(at).compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        let mut at = at;
        let mut rest = buffer;
        while !rest.is_empty() {
            let skip = (at % 8) as usize;
            let len = (8 - skip).min(rest.len());
            let bytes = self.load(at - skip as u64).to_le_bytes();
            let (part, after) = rest.split_at_mut(len);
            part.copy_from_slice(&bytes[skip..skip + len]);
            (at, rest) = (at + len as u64, after);
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let mut at = at;
        let mut rest = bytes;
        while !rest.is_empty() {
            let skip = (at % 8) as usize;
            let len = (8 - skip).min(rest.len());
            let word = at - skip as u64;
            let mut merged = if len == 8 { [0; 8] } else { self.load(word).to_le_bytes() };
            merged[skip..skip + len].copy_from_slice(&rest[..len]);
            self.store(word, u64::from_le_bytes(merged));
            (at, rest) = (at + len as u64, &rest[len..]);
        }
    }

    fn zero(&self, at: u64, len_bytes: u64) {
        if at.is_multiple_of(8) && len_bytes.is_multiple_of(8) {
            let words = &self.words[(at / 8) as usize..((at + len_bytes) / 8) as usize];
            words.iter().for_each(|word| word.store(0, Ordering::Release));
        } else {
            (at..at + len_bytes).for_each(|at| self.write(at, &[0]));
        }
    }

    fn flush(&self, at: u64, len_bytes: u64) {
        assert!(
            at.checked_add(len_bytes).is_some_and(|end| end <= self.len_bytes()),
            "a flush lies in the region"
        );
    }

    fn fence(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_bytes_round_trip() {
        let data: Vec<u8> = (0..100).collect();
        for at in 0..17 {
            for len in 0..40 {
                let memory = Memory::zeroed(128);
                memory.write(at, &data[..len]);
                let mut back = vec![0xff; len];
                memory.read(at, &mut back);
                assert_eq!(back, data[..len]);
                assert_eq!(
                    memory.to_bytes().iter().map(|&b| u64::from(b)).sum::<u64>(),
                    (0..len as u64).sum()
                );
                memory.zero(at, len as u64);
                assert!(memory.to_bytes().iter().all(|&b| b == 0));
            }
        }
    }
}
