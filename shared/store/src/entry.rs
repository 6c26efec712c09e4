//! Entries of page trees: 8-byte words that the MMU reads where they lie. ◆ Design, section 5.
//!
//! This module alone knows the bits ([`encode`], [`decode`]). What the MMU sees is the x86-64 format (Intel SDM
//! volume 3, section 4.5); what it ignores holds the rest:
//!
//! | bits | in tables and leaves | otherwise |
//! |---|---|---|
//! | 0 | present | 0 |
//! | 1, 2 | writable, user | kind, 1-7 in bits 1-3 |
//! | 5, 6 | accessed, and dirty in leaves: preset, so that hardware never writes | 0 |
//! | 7 | 2 MiB leaf | 0 |
//! | 9 | *valid*: durable, recovery trusts it | 0 |
//! | 10 | generation of relocation | same |
//! | 11 | wanted: may be written once it is private (equals bit 1 until there is copy-on-write) | 0 |
//! | 12-51 | frame | payload |
//! | 52-58 | check code over frame or payload, kind, level and index | same |
//! | 59-63 | 0 | 0 |
//!
//! A hole is the word 0, at every level. The check code is a CRC-7 (x^7 + x^3 + 1): it notices every single
//! flipped bit and every burst of up to seven in what it covers; all other bits have one right value each.

use crate::frames::{FrameNo, HUGE_FRAMES};

/// Entries of a table.
pub const TABLE_ENTRIES: u16 = 512;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const HUGE: u64 = 1 << 7;
const VALID: u64 = 1 << 9;
const GENERATION: u64 = 1 << 10;
const WANTED: u64 = 1 << 11;
const FRAME_SHIFT: u32 = 12;
const FRAME_BITS: u32 = 40;
const FRAME_MASK: u64 = ((1 << FRAME_BITS) - 1) << FRAME_SHIFT;
const CHECK_SHIFT: u32 = 52;
const KIND_SHIFT: u32 = 1;

/// Kinds of what is neither table nor leaf.
const FORBIDDEN: u64 = 1;
const DEMAND_ZERO: u64 = 2;
const LINK: u64 = 3;
const POISONED: u64 = 4;

/// Level of a table: entries of level 1 map 4 KiB each, of level 2 2 MiB, of level 3 1 GiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Page table.
    One = 1,
    /// Page directory.
    Two = 2,
    /// Page directory pointer table.
    Three = 3,
}

impl Level {
    /// The level of a number.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            3 => Some(Self::Three),
            _ => None,
        }
    }

    /// The level that tables in entries of this level have.
    #[must_use]
    pub const fn below(self) -> Option<Self> {
        Self::new(self as u8 - 1)
    }

    /// Pages that one entry covers.
    #[must_use]
    pub const fn entry_pages(self) -> u64 {
        1 << (9 * (self as u32 - 1))
    }

    /// Pages that one table covers.
    #[must_use]
    pub const fn table_pages(self) -> u64 {
        1 << (9 * self as u32)
    }

    /// The entry that covers `page`.
    #[must_use]
    pub const fn index(self, page: u64) -> u16 {
        (page / self.entry_pages() % TABLE_ENTRIES as u64) as u16
    }
}

/// Where in a tree an entry lies; part of what its check code covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Level of its table.
    pub level: Level,
    /// Its index in the table.
    pub index: u16,
}

/// Tells entries that were relocated from those that were not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Generation(pub bool);

impl Generation {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        Self(!self.0)
    }
}

/// Whether the MMU sees an entry yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// Not seen by the MMU; may or may not be durable.
    Valid,
    /// Durable, and seen by the MMU.
    Present,
}

/// Whether a leaf may be written through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Data: rights lie in the upper entries.
    Writable,
    /// The metadata page.
    ReadOnly,
}

/// What a word means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing was ever stored there. Reads as zero, and is filled when touched.
    Hole,
    /// Never to be filled: an access is a fault.
    Forbidden,
    /// Like a hole, where one has been promised. Filled when touched.
    DemandZero,
    /// Reserved: a shared range of another object, by number of a link record.
    Link(u64),
    /// Reserved: the media failed here; an access is a fault.
    Poisoned,
    /// A table of the next lower level.
    Table(FrameNo, Presence),
    /// A page: 4 KiB at level 1, 2 MiB at level 2.
    Leaf(FrameNo, Presence, Protection),
}

/// The word means nothing at its place: some of its bits changed, or it was never an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadEntry;

/// Seven-bit digits that a check code covers.
const DIGITS: usize = 8;

/// What each value of each digit adds to the CRC-7 of all: it is linear, so the digits need not wait for each other.
const CRC7: [[u8; 128]; DIGITS] = {
    let mut tables = [[0; 128]; DIGITS];
    let mut digit = DIGITS;
    while digit > 0 {
        digit -= 1;
        let mut value = 0;
        while value < 128 {
            // The last digit is shifted through once, the one before it twice, and so on.
            let mut crc = if digit + 1 == DIGITS { value as u8 } else { tables[digit + 1][value] };
            let mut bit = 0;
            while bit < 7 {
                crc = if crc & 0x40 == 0 { crc << 1 } else { (crc << 1) ^ 0x89 };
                bit += 1;
            }
            tables[digit][value] = crc & 0x7f;
            value += 1;
        }
    }
    tables
};

/// Seven bits over 56 bits, from the lowest seven on, starting from 0x55.
#[must_use]
pub(crate) const fn crc7(value: u64) -> u64 {
    let value = value ^ 0x55;
    let (mut crc, mut digit) = (0, 0);
    while digit < DIGITS {
        crc ^= CRC7[digit][(value >> (7 * digit) & 0x7f) as usize];
        digit += 1;
    }
    crc as u64
}

/// Check code of what lies in `word`'s frame bits, for a kind (0: table, 1: leaf, else special) at a place.
const fn check(word: u64, kind: u64, place: Place) -> u64 {
    let covered = (word & FRAME_MASK) >> FRAME_SHIFT
        | (place.index as u64) << FRAME_BITS
        | (place.level as u64) << (FRAME_BITS + 9)
        | kind << (FRAME_BITS + 11);
    crc7(covered) << CHECK_SHIFT
}

const fn special(kind: u64, payload: u64, place: Place, generation: u64) -> u64 {
    let word = kind << KIND_SHIFT | payload << FRAME_SHIFT & FRAME_MASK | generation;
    word | check(word, kind + 1, place)
}

/// The word that means `entry` at `place`.
#[must_use]
pub const fn encode(entry: Entry, place: Place, generation: Generation) -> u64 {
    let generation = if generation.0 { GENERATION } else { 0 };
    match entry {
        Entry::Hole => 0,
        Entry::Forbidden => special(FORBIDDEN, 0, place, generation),
        Entry::DemandZero => special(DEMAND_ZERO, 0, place, generation),
        Entry::Link(number) => special(LINK, number, place, generation),
        Entry::Poisoned => special(POISONED, 0, place, generation),
        Entry::Table(frame, presence) => {
            let word = frame.0 << FRAME_SHIFT & FRAME_MASK | generation | VALID | ACCESSED | WRITE | USER;
            word | presence_bit(presence) | check(word, 0, place)
        }
        Entry::Leaf(frame, presence, protection) => {
            let word = frame.0 << FRAME_SHIFT & FRAME_MASK | generation | VALID | ACCESSED | DIRTY | USER;
            let rights = match protection {
                Protection::Writable => WRITE | WANTED,
                Protection::ReadOnly => 0,
            };
            let huge = if matches!(place.level, Level::One) { 0 } else { HUGE };
            word | rights | huge | presence_bit(presence) | check(word, 1, place)
        }
    }
}

const fn presence_bit(presence: Presence) -> u64 {
    match presence {
        Presence::Valid => 0,
        Presence::Present => PRESENT,
    }
}

/// What `word` means at `place`. Checks everything that the word itself can tell; that the frame exists is for
/// the caller to check.
///
/// # Errors
/// [`BadEntry`] for every word that [`encode`] doesn't make.
pub fn decode(word: u64, place: Place, generation: Generation) -> Result<Entry, BadEntry> {
    if word == 0 {
        return Ok(Entry::Hole);
    }
    let number = (word & FRAME_MASK) >> FRAME_SHIFT;
    let frame = FrameNo(number);
    let entry = if word & VALID == 0 {
        match word >> KIND_SHIFT & 7 {
            FORBIDDEN => Entry::Forbidden,
            DEMAND_ZERO => Entry::DemandZero,
            LINK => Entry::Link(number),
            POISONED => Entry::Poisoned,
            _ => return Err(BadEntry),
        }
    } else {
        let presence = if word & PRESENT == 0 { Presence::Valid } else { Presence::Present };
        let is_leaf = match place.level {
            Level::One => true,
            Level::Two => word & HUGE != 0,
            Level::Three => false,
        };
        if is_leaf {
            if place.level == Level::Two && !number.is_multiple_of(HUGE_FRAMES) {
                return Err(BadEntry);
            }
            let protection = if word & WRITE == 0 { Protection::ReadOnly } else { Protection::Writable };
            Entry::Leaf(frame, presence, protection)
        } else {
            Entry::Table(frame, presence)
        }
    };
    // One word for each entry: what differs in any bit is no entry.
    if encode(entry, place, generation) == word { Ok(entry) } else { Err(BadEntry) }
}

/// The generation that `word` claims. Meaningless for a hole.
#[must_use]
pub const fn generation_of(word: u64) -> Generation {
    Generation(word & GENERATION != 0)
}

/// `word` as the MMU sees it once it is durable.
#[must_use]
pub const fn made_present(word: u64) -> u64 {
    word | PRESENT
}

#[cfg(test)]
mod tests;
