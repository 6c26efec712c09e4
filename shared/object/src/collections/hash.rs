//! The hash of keys. It is part of the media format: it must never change.
//!
//! Folded multiplications, as in wyhash and foldhash, keyed with a seed that each map draws at random, so that nobody who doesn't know
//! the map can choose keys that collide. It is no cryptographic hash: who can read the map can.

use super::raw::value_at;

/// Odd numbers with half of their bits set.
const FOLDS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// The two halves of a product, mixed.
#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    product as u64 ^ (product >> 64) as u64
}

/// The hash of bytes.
#[inline(always)]
pub(super) fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut state = seed ^ bytes.len() as u64;
    let mut rest = bytes;
    while rest.len() > 8 {
        state = fold(state ^ value_at::<u64>(rest, 0), FOLDS[0]);
        rest = &rest[8..];
    }
    let last = if rest.len() == 8 {
        value_at(rest, 0)
    } else {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(word)
    };
    // Once more: a product's lowest and highest bits depend on few of the factors'.
    fold(fold(state ^ last, FOLDS[1]) ^ FOLDS[0], FOLDS[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn the_hash_does_not_drift() {
        let last = |state| fold(fold(state, FOLDS[1]) ^ FOLDS[0], FOLDS[0]);
        assert_eq!(hash_bytes(b"", 0), last(0));
        assert_eq!(hash_bytes(b"key", 7), last(7 ^ 3 ^ 0x79_656b));
        let first = fold(1 ^ 11 ^ u64::from_le_bytes(*b"12345678"), FOLDS[0]);
        assert_eq!(hash_bytes(b"12345678abc", 1), last(first ^ 0x63_6261));
    }

    #[test]
    fn low_and_high_bits_of_like_keys_differ() {
        for shift in [0, 8, 32, 56] {
            let hashes = |bits: fn(u64) -> u64| {
                (0..256u64)
                    .map(|n| bits(hash_bytes(&(n << shift).to_le_bytes(), 99)))
                    .collect::<BTreeSet<_>>()
            };
            assert!(hashes(|hash| hash & 0xff).len() > 128, "{shift}");
            assert!(hashes(|hash| hash >> 56).len() > 128, "{shift}");
        }
    }
}
