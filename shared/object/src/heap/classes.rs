//! Size classes, and how a slab of each is laid out.

use twizzler_abi::address::PAGE_BYTES;

/// Block sizes, ascending.
pub(super) const SIZES: [u32; CLASSES] =
    [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192];
/// Number of classes.
pub(super) const CLASSES: usize = 17;
/// Words of a slab's map.
pub(super) const MAP_WORDS: usize = 4;
/// Blocks of a slab at most: the bits of its map.
pub(super) const BLOCKS_MAX: u32 = MAP_WORDS as u32 * 64;
/// Bytes of a slab's head, which takes the place of some blocks.
pub(super) const HEAD_BYTES: u32 = 64;
/// Bytes of a slab at most.
const SLAB_BYTES_MAX: u32 = 64 * 1024;

/// A size class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class(u8);

impl Class {
    /// The class whose blocks hold `len_bytes` at a multiple of `align`, a power of two up to a page; None: too much for a block.
    pub(super) fn of(len_bytes: u64, align: u64) -> Option<Self> {
        let index = SIZES.partition_point(|&size| u64::from(size) < len_bytes);
        let fits = |&index: &usize| u64::from(SIZES[index]).is_multiple_of(align);
        (index..CLASSES).find(fits).map(|index| Self(index as u8))
    }

    /// The class of that number.
    pub(super) const fn new(index: usize) -> Option<Self> {
        if index < CLASSES { Some(Self(index as u8)) } else { None }
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

    /// Blocks, counting those under the head.
    pub(super) const fn blocks(self) -> u32 {
        self.slab_bytes() / self.block_bytes()
    }

    /// The first block under the head of a slab of that colour. Heads lie at different lines of their slab's first page, so that those of
    /// many slabs, and the first blocks of many objects, don't compete for the same cache sets.
    pub(super) const fn head_block(self, colour: u64) -> u32 {
        let mut step = self.block_bytes();
        while !step.is_multiple_of(HEAD_BYTES) {
            step += self.block_bytes();
        }
        let places = (PAGE_BYTES as u32 - HEAD_BYTES) / step + 1;
        (colour % places as u64) as u32 * (step / self.block_bytes())
    }

    /// Blocks under the head.
    pub(super) const fn head_blocks(self) -> u32 {
        HEAD_BYTES.div_ceil(self.block_bytes())
    }

    /// The map of a slab whose blocks are all free: bits of what is no block, or under the head, are set.
    pub(super) fn empty_map(self, head_block: u32) -> [u64; MAP_WORDS] {
        let head = below(head_block + self.head_blocks());
        let before = below(head_block);
        let blocks = below(self.blocks());
        core::array::from_fn(|word| (head[word] & !before[word]) | !blocks[word])
    }
}

/// A map whose first `end` bits are set.
fn below(end: u32) -> [u64; MAP_WORDS] {
    core::array::from_fn(|word| match end.saturating_sub(word as u32 * 64) {
        0 => 0,
        bits @ 1..64 => (1 << bits) - 1,
        _ => u64::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_finds_the_smallest_class_that_holds_it() {
        for len in 1..=8192u64 {
            for align in (0..=12).map(|power| 1 << power) {
                let class = Class::of(len, align).expect("a block");
                let holds = |size: u32| u64::from(size) >= len && u64::from(size).is_multiple_of(align);
                assert!(holds(class.block_bytes()));
                assert!(SIZES[..class.index()].iter().all(|&size| !holds(size)));
            }
        }
        assert_eq!(Class::of(8193, 1), None);
    }

    #[test]
    fn slabs_are_whole_pages_and_their_blocks_fit_the_map() {
        for class in (0..CLASSES).filter_map(Class::new) {
            assert_eq!(u64::from(class.slab_bytes()) % PAGE_BYTES, 0);
            assert!(class.slab_bytes().is_power_of_two());
            assert!(class.blocks() <= BLOCKS_MAX && class.head_blocks() < class.blocks());
            assert_eq!(class.block_bytes() % 16, 0);
        }
    }

    #[test]
    fn heads_are_whole_lines_of_the_first_page_in_all_colours() {
        for class in (0..CLASSES).filter_map(Class::new) {
            for colour in 0..128 {
                let block = class.head_block(colour);
                let at = block * class.block_bytes();
                assert!(at.is_multiple_of(64) && u64::from(at + HEAD_BYTES) <= PAGE_BYTES);
                let used: u32 = class.empty_map(block).iter().map(|word| word.count_ones()).sum();
                assert_eq!(BLOCKS_MAX - used, class.blocks() - class.head_blocks());
            }
        }
        let lines: alloc::collections::BTreeSet<_> =
            (0..64).map(|colour| Class(3).head_block(colour)).collect();
        assert_eq!(lines.len(), 64);
    }
}
