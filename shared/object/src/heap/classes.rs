//! Size classes.

use twizzler_abi::address::PAGE_BYTES;

/// Block sizes, ascending.
pub(super) const SIZES: [u32; CLASSES] =
    [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192];
/// Number of classes.
pub(super) const CLASSES: usize = 17;
/// Blocks of a slab at most: the bits of its map.
pub(super) const BLOCKS_MAX: u32 = 256;
/// Bytes of a slab's head, which takes the place of its first blocks.
pub(super) const HEAD_BYTES: u32 = 64;
/// Bytes of a slab at most.
const SLAB_BYTES_MAX: u32 = 64 * 1024;

/// A size class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class(u8);

impl Class {
    /// The class whose blocks hold `len_bytes`; None: too much for a block.
    pub(super) fn of(len_bytes: u64) -> Option<Self> {
        let index = SIZES.partition_point(|&size| u64::from(size) < len_bytes);
        (index < CLASSES).then_some(Self(index as u8))
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn block_bytes(self) -> u32 {
        SIZES[self.0 as usize]
    }

    /// Bytes of a slab: a power of two, and the slab's alignment.
    pub(super) const fn slab_bytes(self) -> u32 {
        let most = self.block_bytes() * BLOCKS_MAX;
        let power = 1 << most.ilog2();
        if power < SLAB_BYTES_MAX { power } else { SLAB_BYTES_MAX }
    }

    pub(super) const fn slab_pages(self) -> u64 {
        self.slab_bytes() as u64 / PAGE_BYTES
    }

    /// The first block that is not under the head.
    pub(super) const fn first_block(self) -> u32 {
        HEAD_BYTES.div_ceil(self.block_bytes())
    }

    /// Blocks, counting those under the head.
    pub(super) const fn blocks(self) -> u32 {
        self.slab_bytes() / self.block_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_finds_the_smallest_class_that_holds_it() {
        for len in 1..=8192u64 {
            let class = Class::of(len).expect("a block");
            assert!(u64::from(class.block_bytes()) >= len);
            assert!(class.index() == 0 || u64::from(SIZES[class.index() - 1]) < len);
        }
        assert_eq!(Class::of(8193), None);
    }

    #[test]
    fn slabs_are_whole_pages_and_their_blocks_fit_the_map() {
        for index in 0..CLASSES {
            let class = Class(index as u8);
            assert_eq!(u64::from(class.slab_bytes()) % PAGE_BYTES, 0);
            assert!(class.slab_bytes().is_power_of_two());
            assert!(class.blocks() <= BLOCKS_MAX && class.first_block() < class.blocks());
            assert_eq!(class.block_bytes() % 16, 0);
        }
    }
}
