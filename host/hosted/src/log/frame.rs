//! Frames: what the log is a row of.
//!
//! | word | |
//! |---|---|
//! | 0 | check over all that follows and the log's epoch |
//! | 1 | the frame's own position |
//! | 2 | kind above bit 56; words that follow the head |
//! | 3 | all before this position was on the disk when the frame was made |
//! | 4.. | the words |
//!
//! Positions count bytes since the log was made and never go back, though the file is written over and over. A frame that an earlier lap
//! left has another position; one that was written after the last record that counts, and then lost its place to another, has an earlier
//! epoch: recovery begins a new one. A frame begins where the one before ends, or at the next sector: each batch that is written begins
//! with a sector, so that no sector with committed bytes is ever written again, but as part of a page of the host's or of a larger sector of the disk's: then with the bytes that
//! it has.
//!
//! A log ends at the first frame that is not sound: a batch that was under way may have arrived in part. Word 3 of a sound frame further on tells
//! that from damage: what it says was on the disk was lost by the disk, not by a crash.

/// What the disk writes whole or not at all, and the start of each batch.
pub(crate) const SECTOR: u64 = 512;
/// Words of the head.
pub(crate) const HEAD_WORDS: usize = 4;
const KIND_SHIFT: u32 = 56;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A transaction's record.
    Record,
    /// An object's ID, an offset and a length: what earlier records say of that range no longer counts.
    Barrier,
}

/// Where a frame is, and when it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) position: u64,
    /// All before this position is on the disk.
    pub(crate) durable: u64,
}

/// The four words before the frame's own, of which there are `len` with this digest.
pub(crate) fn head(place: Place, kind: Kind, len: usize, digest: u64) -> [u64; HEAD_WORDS] {
    let kind = match kind {
        Kind::Record => 1,
        Kind::Barrier => 2,
    };
    let mut head = [0, place.position, kind << KIND_SHIFT | len as u64, place.durable];
    head[0] = check(place.epoch, &head, digest);
    head
}

/// Bytes of a frame with so many words of its own.
pub(crate) const fn len_bytes(words: usize) -> u64 {
    (HEAD_WORDS + words) as u64 * 8
}

/// The number of words that follow this head, if it is one at this position.
pub(crate) fn words_after(head: &[u64; HEAD_WORDS], position: u64, room_bytes: u64) -> Option<usize> {
    let words = head[2] & ((1 << KIND_SHIFT) - 1);
    let fits = head[1] == position && words <= room_bytes / 8 && len_bytes(words as usize) <= room_bytes;
    fits.then_some(words as usize)
}

/// The frame's kind, if it is sound.
pub(crate) fn kind_of(epoch: u64, head: &[u64; HEAD_WORDS], words: &[u64]) -> Option<Kind> {
    if head[0] != check(epoch, head, digest(words)) {
        return None;
    }
    match head[2] >> KIND_SHIFT {
        1 => Some(Kind::Record),
        2 => Some(Kind::Barrier),
        _ => None,
    }
}

/// What the check takes of the frame's own words: the long part, which needs no place and no lock.
pub(crate) fn digest(words: &[u64]) -> u64 {
    words.iter().fold(words.len() as u64, mix)
}

fn check(epoch: u64, head: &[u64; HEAD_WORDS], digest: u64) -> u64 {
    let state = [head[1], head[2], head[3], digest].iter().fold(epoch ^ 0x7477_7a6c_6f67, mix);
    state.wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// Sensitive to order, so that a torn frame shows.
fn mix(state: u64, word: &u64) -> u64 {
    let state = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state ^ state >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_of_their_place_and_epoch() {
        let words = [5, 6, 7];
        let place = Place { epoch: 9, position: 4096, durable: 512 };
        let made = head(place, Kind::Barrier, 3, digest(&words));
        assert_eq!(words_after(&made, 4096, 1 << 20), Some(3));
        assert_eq!(words_after(&made, 8192, 1 << 20), None);
        assert_eq!(words_after(&made, 4096, 48), None);
        assert_eq!(kind_of(9, &made, &words), Some(Kind::Barrier));
        assert_eq!(kind_of(10, &made, &words), None);
    }

    #[test]
    fn each_flipped_bit_is_noticed() {
        let words = [5, 6, 7];
        let place = Place { epoch: 9, position: 4096, durable: 512 };
        let made = head(place, Kind::Record, 3, digest(&words));
        for bit in 0..7 * 64 {
            let (mut bad, mut bad_words) = (made, words);
            let all = bad.iter_mut().chain(&mut bad_words).nth(bit / 64).expect("seven words");
            *all ^= 1 << (bit % 64);
            assert_eq!(kind_of(9, &bad, &bad_words), None, "bit {bit}");
        }
    }

    #[test]
    fn lengths_from_anywhere_do_no_harm() {
        for len in [u64::MAX, 1 << 55, (1 << 56) - 1] {
            assert_eq!(words_after(&[0, 0, len, 0], 0, 1 << 20), None);
        }
    }
}
