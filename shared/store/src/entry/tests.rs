extern crate std;
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

fn places() -> impl Iterator<Item = Place> {
    [Level::One, Level::Two, Level::Three]
        .into_iter()
        .flat_map(|level| (0..TABLE_ENTRIES).map(move |index| Place { level, index }))
}

fn entries(level: Level, number: u64) -> Vec<Entry> {
    let mut all =
        std::vec![Entry::Hole, Entry::Forbidden, Entry::DemandZero, Entry::Link(number), Entry::Poisoned];
    for presence in [Presence::Valid, Presence::Present] {
        if level != Level::One {
            all.push(Entry::Table(FrameNo(number), presence));
        }
        if level != Level::Three {
            let frame = if level == Level::One { FrameNo(number) } else { FrameNo(number & !511) };
            all.push(Entry::Leaf(frame, presence, Protection::Writable));
            all.push(Entry::Leaf(frame, presence, Protection::ReadOnly));
        }
    }
    all
}

#[test]
fn every_entry_round_trips_at_every_place() {
    for place in places() {
        for number in [0, 1, 0x12345, (1 << FRAME_BITS) - 1] {
            for entry in entries(place.level, number) {
                for generation in [Generation(false), Generation(true)] {
                    let word = encode(entry, place, generation);
                    assert_eq!(decode(word, place, generation), Ok(entry), "{place:?}");
                    if entry != Entry::Hole {
                        assert!(decode(word, place, generation.other()).is_err());
                        assert_eq!(generation_of(word), generation);
                    }
                }
            }
        }
    }
}

/// Single bits of an entry that may differ without being noticed: presence, which changes in life; and bits whose
/// other value is another right entry (protection takes two bits; kinds and large leaves are covered).
#[test]
fn every_flipped_bit_is_noticed_but_presence() {
    let place = Place { level: Level::Two, index: 77 };
    for entry in entries(Level::Two, 0x0ab_cdef_1200) {
        let word = encode(entry, place, Generation(false));
        for bit in 0..64 {
            let bad = word ^ 1 << bit;
            let noticed = decode(bad, place, Generation(false)).is_err();
            let valid = matches!(entry, Entry::Table(..) | Entry::Leaf(..));
            assert_eq!(noticed, !(valid && bit == 0), "{entry:?} bit {bit}");
        }
    }
}

#[test]
fn the_format_does_not_drift() {
    let place = Place { level: Level::One, index: 3 };
    let leaf = Entry::Leaf(FrameNo(0x4_0003), Presence::Present, Protection::Writable);
    let word = encode(leaf, place, Generation(false));
    assert_eq!(word & !(0x7f << CHECK_SHIFT), 0x4000_3a67);
    assert_eq!(word >> CHECK_SHIFT, crc7(0x4_0003 | 3 << 40 | 1 << 49 | 1 << 51));
    let table = encode(
        Entry::Table(FrameNo(0x4_0004), Presence::Valid),
        Place { level: Level::Two, index: 0 },
        Generation(true),
    );
    assert_eq!(table & !(0x7f << CHECK_SHIFT), 0x4000_4626);
}

proptest! {
    #[test]
    fn an_entry_elsewhere_in_its_line_or_level_is_bad(number in 1u64..1 << 40, index in 0u16..512, step in 1u16..128) {
        let place = Place { level: Level::One, index };
        let word = encode(Entry::Leaf(FrameNo(number), Presence::Present, Protection::Writable), place, Generation(false));
        let moved = Place { index: (index & !127) | ((index + step) & 127), ..place };
        prop_assert!(moved == place || decode(word, moved, Generation(false)).is_err());
        let higher = decode(word, Place { level: Level::Three, ..place }, Generation(false));
        prop_assert!(higher.is_err());
    }

    #[test]
    fn any_word_decodes_or_is_refused(word: u64, index in 0u16..512, level in 1u8..=3) {
        let place = Place { level: Level::new(level).expect("1 to 3"), index };
        if let Ok(entry) = decode(word, place, Generation(false)) {
            prop_assert_eq!(encode(entry, place, Generation(false)), word);
        }
    }
}
