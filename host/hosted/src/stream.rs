//! Storing past the caches.

use std::arch::asm;
use std::sync::atomic::{AtomicU64, Ordering};

use twizzler_pmem::LINE_BYTES;
use twizzler_pmem::cache::WriteBack;

/// Stores words past the caches where they fill a line, and starts writing back the others. Without `write_back`, where caches survive, they
/// are stored, no more.
///
/// Nobody reads them soon, so their lines need not come into the cache, and a fence waits for less. Like stores and flushes, they may become
/// durable in any order, and are when a [`twizzler_pmem::cache::fence`] has followed.
///
/// # Safety
/// `address` is aligned by 8, and as many words there may be written; others see them through atomics alone, or after a fence.
pub unsafe fn stream(write_back: Option<WriteBack>, address: u64, words: &[u64]) {
    const LINE_WORDS: usize = LINE_BYTES as usize / 8;
    let store = |at: u64, word| {
        let place = std::ptr::with_exposed_provenance_mut::<AtomicU64>(at as usize);
        // SAFETY: an aligned word that the caller may write, as documented.
        unsafe { &*place }.store(word, Ordering::Relaxed);
    };
    let Some(write_back) = write_back else {
        return words.iter().enumerate().for_each(|(n, &word)| store(address + n as u64 * 8, word));
    };
    let fills_line = |at: u64, left: usize| at.is_multiple_of(LINE_BYTES) && left >= LINE_WORDS;
    let (mut at, mut rest) = (address, words);
    while !rest.is_empty() {
        let fills = fills_line(at, rest.len());
        let (part, others) = rest.split_at((((LINE_BYTES - at % LINE_BYTES) / 8) as usize).min(rest.len()));
        for (n, &word) in part.iter().enumerate() {
            let place = at + n as u64 * 8;
            if fills {
                // SAFETY: a word that the caller may write, as documented.
                unsafe {
                    asm!("movnti [{}], {}", in(reg) place, in(reg) word, options(nostack, preserves_flags))
                };
            } else {
                store(place, word);
            }
        }
        if !fills {
            write_back.flush(at, part.len() as u64 * 8);
        }
        (at, rest) = (at + part.len() as u64 * 8, others);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twizzler_pmem::cache::fence;

    #[test]
    fn streamed_words_are_there_whatever_lines_they_fill() {
        #[repr(align(64))]
        struct Lines([u64; 64]);
        for (first, len) in (0..16).flat_map(|first| (0..40).map(move |len| (first, len))) {
            for write_back in [None, Some(WriteBack::detect())] {
                let mut lines = Lines([7; 64]);
                let words: Vec<u64> = (100..100 + len as u64).collect();
                let address = lines.0[first..].as_mut_ptr().expose_provenance() as u64;
                // SAFETY: aligned words of an array of one's own, which has as many.
                unsafe { stream(write_back, address, &words) };
                fence();
                assert_eq!(lines.0[first..first + len], words);
                assert!(lines.0[..first].iter().chain(&lines.0[first + len..]).all(|&word| word == 7));
            }
        }
    }
}
