//! The address map. ◆ Design, section 5.
//!
//! The lower half is cut into *slots* of 1 GiB, numbered by address. A small object takes one slot; a
//! large object takes a whole PML4 entry and is named by the first of its 512 slots.

use core::ops::Range;

use crate::rights::SizeClass;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes of a slot.
pub const SLOT_BYTES: u64 = 1 << 30;
/// Slots that one PML4 entry covers.
pub const SLOTS_PER_PML4: u32 = 512;
/// Slots of the lower half.
pub const SLOTS: u32 = 256 * SLOTS_PER_PML4;

/// PML4 entries of each area.
pub mod pml4 {
    use core::ops::Range;
    /// Low addresses for Linux-style programs.
    pub const LOW: Range<u32> = 0..1;
    /// Small objects.
    pub const SMALL: Range<u32> = 1..96;
    /// Tiny objects.
    pub const TINY: Range<u32> = 96..104;
    /// Large objects.
    pub const LARGE: Range<u32> = 104..160;
    /// Process areas.
    pub const PROCESS: Range<u32> = 160..224;
    /// The context band.
    pub const BAND: Range<u32> = 224..256;
}

/// What a part of the map is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// Low addresses for Linux-style programs.
    Low,
    /// Small objects, one slot each.
    Small,
    /// Tiny objects.
    Tiny,
    /// Large objects, one PML4 entry each.
    Large,
    /// Process areas.
    Process,
    /// The context band, small objects.
    Band,
}

/// Number of a slot: its address divided by 1 GiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The slot of this number.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number < SLOTS { Some(Self(number)) } else { None }
    }

    /// The slot that holds `address`, if that lies in the lower half.
    #[must_use]
    pub const fn of(address: u64) -> Option<Self> {
        if address < SLOTS as u64 * SLOT_BYTES { Some(Self((address / SLOT_BYTES) as u32)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The first address.
    #[must_use]
    pub const fn base(self) -> u64 {
        self.0 as u64 * SLOT_BYTES
    }

    /// The PML4 entry that the slot lies under.
    #[must_use]
    pub const fn pml4(self) -> u32 {
        self.0 / SLOTS_PER_PML4
    }

    /// What the slot's part of the map is for.
    #[must_use]
    pub fn area(self) -> Area {
        let entry = self.pml4();
        let areas = [
            (pml4::LOW, Area::Low),
            (pml4::SMALL, Area::Small),
            (pml4::TINY, Area::Tiny),
            (pml4::LARGE, Area::Large),
            (pml4::PROCESS, Area::Process),
        ];
        areas.into_iter().find(|(range, _)| range.contains(&entry)).map_or(Area::Band, |(_, area)| area)
    }

    /// The slot whose view entry says what is at this slot: itself for small objects, the first slot of
    /// the PML4 entry for large ones. None where no objects are mapped by views yet.
    #[must_use]
    pub fn entry_slot(self) -> Option<(Self, SizeClass)> {
        match self.area() {
            Area::Small | Area::Band => Some((self, SizeClass::Small)),
            Area::Large => Some((Self(self.pml4() * SLOTS_PER_PML4), SizeClass::Large)),
            Area::Low | Area::Tiny | Area::Process => None,
        }
    }
}

/// Slots for small objects that programs choose from.
pub const SMALL_SLOTS: Range<u32> = pml4::SMALL.start * SLOTS_PER_PML4..pml4::SMALL.end * SLOTS_PER_PML4;
/// Slots under which large objects lie, [`SLOTS_PER_PML4`] of them under each.
pub const LARGE_SLOTS: Range<u32> = pml4::LARGE.start * SLOTS_PER_PML4..pml4::LARGE.end * SLOTS_PER_PML4;
/// Bytes of a large object's range.
pub const LARGE_BYTES: u64 = SLOT_BYTES * SLOTS_PER_PML4 as u64;
/// Where the area of large objects begins. Below it lie small ones, as far as programs choose where.
pub const LARGE_START: u64 = LARGE_SLOTS.start as u64 * SLOT_BYTES;

/// Bytes of the range of the object that is mapped at `address`, which lies in the area of small or of large objects.
#[inline(always)]
#[must_use]
pub const fn range_bytes(address: u64) -> u64 {
    if address < LARGE_START { SLOT_BYTES } else { LARGE_BYTES }
}

/// First address of the range of the object that is mapped at `address`, which lies in the area of small or of large objects.
#[inline(always)]
#[must_use]
pub const fn range_start(address: u64) -> u64 {
    address & range_bytes(address).wrapping_neg()
}

/// Places in the context band that every native program finds its own things at.
pub mod band {
    use super::{SLOTS_PER_PML4, Slot, pml4};

    const FIRST: u32 = pml4::BAND.start * SLOTS_PER_PML4;

    const fn slot(number: u32) -> Slot {
        match Slot::new(FIRST + number) {
            Some(slot) => slot,
            None => panic!("band slots lie in the lower half"),
        }
    }

    /// Instructions and constants of the program. Linked to start at this slot's base + 0x3000.
    pub const TEXT: Slot = slot(0);
    /// The program's initialised and zeroed statics. Linked to start at this slot's base + 0x3000.
    pub const DATA: Slot = slot(1);
    /// The view itself, writable.
    pub const VIEW: Slot = slot(8);
    /// The translation table.
    pub const TRANSLATION: Slot = slot(9);
    /// What the kernel publishes, read-only.
    pub const SYSTEM: Slot = slot(10);
    /// Arguments, from whoever started the program.
    pub const STARTUP: Slot = slot(11);
    /// The program's private heap.
    pub const HEAP: Slot = slot(12);
    /// The boot archive; in `init` and what it lends it to.
    pub const ARCHIVE: Slot = slot(13);
    /// Stack of the first thread; further threads take the slots after it.
    pub const STACK: Slot = slot(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_cover_the_lower_half_without_gap() {
        let ends = [pml4::LOW, pml4::SMALL, pml4::TINY, pml4::LARGE, pml4::PROCESS, pml4::BAND];
        assert_eq!(ends[0].start, 0);
        assert!(ends.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!(ends[5].end, 256);
    }

    #[test]
    fn slots_and_addresses_agree() {
        assert_eq!(band::TEXT.base(), 0x7000_0000_0000);
        assert_eq!(Slot::of(0x7000_0000_3000), Some(band::TEXT));
        assert_eq!(Slot::of(1 << 47), None);
        assert_eq!(Slot::new(SLOTS), None);
        assert_eq!(band::STACK.area(), Area::Band);
        let large = Slot::of(104 << 39 | 5 << 30).expect("lower half");
        assert_eq!(large.entry_slot(), Some((Slot(104 * 512), SizeClass::Large)));
        assert_eq!(range_start(large.base() + 7), 104 << 39);
        assert_eq!(range_bytes(large.base()), SizeClass::Large.range_bytes());
        assert_eq!(
            (range_start((1 << 39) + SLOT_BYTES + 5), range_bytes(1 << 39)),
            ((1 << 39) + SLOT_BYTES, SLOT_BYTES)
        );
    }
}
