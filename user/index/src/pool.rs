//! Many byte strings that grow at once, in few blocks of memory.
//!
//! Each *chain* is a list of slices that double in size up to a bound, as in Lucene's `ByteBlockPool`:
//! short chains waste little, long ones have few links, and nothing is ever moved.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

const BLOCK_BITS: u32 = 16;
const BLOCK_BYTES: usize = 1 << BLOCK_BITS;
/// Data bytes of a chain's first slice.
const FIRST_BYTES: usize = 6;
/// Data bytes that a slice has at most.
const SLICE_BYTES_MAX: usize = 2048;
/// Each slice is followed by the number of the next one.
const LINK_BYTES: usize = 4;

/// The memory that chains lie in.
pub(crate) struct Pool {
    blocks: Vec<Box<[u8]>>,
    /// Bytes handed out of the last block.
    used: usize,
}

/// One growing string.
#[derive(Clone, Copy, Default)]
pub(crate) struct Chain {
    head: u32,
    /// Where the next byte goes.
    tail: u32,
    /// Data bytes left in the last slice.
    left: u16,
    /// Data bytes of the last slice; 0: the chain is empty.
    last: u16,
    first: u16,
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self { blocks: Vec::new(), used: BLOCK_BYTES }
    }

    /// Bytes of memory taken.
    pub(crate) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK_BYTES
    }

    fn slice(&mut self, data_bytes: usize) -> u32 {
        let bytes = data_bytes + LINK_BYTES;
        if self.used + bytes > BLOCK_BYTES {
            self.blocks.push(vec![0; BLOCK_BYTES].into_boxed_slice());
            self.used = 0;
        }
        let at = (self.blocks.len() - 1) << BLOCK_BITS | self.used;
        self.used += bytes;
        u32::try_from(at).expect("callers stop long before 4 GiB")
    }

    fn at(&mut self, at: u32) -> &mut [u8] {
        &mut self.blocks[(at >> BLOCK_BITS) as usize][at as usize & (BLOCK_BYTES - 1)..]
    }

    /// Appends a byte.
    pub(crate) fn push(&mut self, chain: &mut Chain, byte: u8) {
        if chain.left == 0 {
            self.grow(chain);
        }
        self.at(chain.tail)[0] = byte;
        chain.tail += 1;
        chain.left -= 1;
    }

    fn grow(&mut self, chain: &mut Chain) {
        let bytes =
            if chain.last == 0 { FIRST_BYTES } else { (usize::from(chain.last) * 2).min(SLICE_BYTES_MAX) };
        let slice = self.slice(bytes);
        if chain.last == 0 {
            chain.head = slice;
            chain.first = bytes as u16;
        } else {
            self.at(chain.tail)[..LINK_BYTES].copy_from_slice(&slice.to_le_bytes());
        }
        chain.tail = slice;
        chain.left = bytes as u16;
        chain.last = bytes as u16;
    }

    /// Appends the chain's bytes to `into`.
    pub(crate) fn read(&self, chain: &Chain, into: &mut Vec<u8>) {
        if chain.last == 0 {
            return;
        }
        let (mut at, mut bytes) = (chain.head, usize::from(chain.first));
        loop {
            let block = &self.blocks[(at >> BLOCK_BITS) as usize];
            let start = at as usize & (BLOCK_BYTES - 1);
            let end = start + bytes;
            let is_last = (start..=end).contains(&(chain.tail as usize & (BLOCK_BYTES - 1)))
                && at >> BLOCK_BITS == chain.tail >> BLOCK_BITS;
            if is_last {
                into.extend_from_slice(&block[start..end - usize::from(chain.left)]);
                return;
            }
            into.extend_from_slice(&block[start..end]);
            let link = block[end..end + LINK_BYTES].try_into().expect("4 bytes");
            at = u32::from_le_bytes(link);
            bytes = (bytes * 2).min(SLICE_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chains_keep_their_bytes_apart(pushes in prop::collection::vec((0usize..5, 1usize..3000), 0..60)) {
            let mut pool = Pool::new();
            let mut chains = [Chain::default(); 5];
            let mut model = vec![Vec::new(); 5];
            for (i, (which, count)) in pushes.into_iter().enumerate() {
                for n in 0..count {
                    pool.push(&mut chains[which], (i * 7 + n) as u8);
                    model[which].push((i * 7 + n) as u8);
                }
            }
            for (chain, bytes) in chains.iter().zip(model) {
                let mut got = Vec::new();
                pool.read(chain, &mut got);
                prop_assert_eq!(got, bytes);
            }
        }
    }
}
