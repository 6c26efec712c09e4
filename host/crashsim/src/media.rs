//! What media may hold: the durable image, and for each line the contents that may have reached it.
//!
//! A line's pending contents are kept in the order in which they came to be. A flush remembers how far the
//! list went; a fence of the same CPU after it makes the content at that point the durable one and forgets
//! those before. Until then, each content in the list, or the durable one, may be found; lines are independent.

use std::collections::BTreeMap;

use twizzler_pmem::{LINE_BYTES, lines};

use crate::image::{Image, Line, line_hash};
use crate::memory::{Cpu, Event};

/// Contents of one line that may or may not have reached media.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Oldest first; the last is what the CPU sees.
    pub(crate) contents: Vec<Line>,
    /// How many of them a flush of each CPU has covered; 0 is not kept.
    flushed: BTreeMap<Cpu, usize>,
}

/// Media while a trace is replayed.
#[derive(Clone)]
pub struct Media {
    pub(crate) durable: Image,
    /// XOR of the hashes of lines that differ from the image at the start.
    pub(crate) durable_hash: u64,
    pub(crate) pending: BTreeMap<u64, Pending>,
}

impl Media {
    /// Media that hold `image`, with nothing on the way.
    #[must_use]
    pub fn new(image: Image) -> Self {
        Self { durable: image, durable_hash: 0, pending: BTreeMap::new() }
    }

    /// Applies a step. Tells whether it made a difference to what media hold or may hold.
    pub fn apply(&mut self, event: &Event) -> bool {
        match event {
            Event::Stored(words) => self.store(words),
            Event::Flushed(cpu, range) => {
                let mut effective = false;
                for at in lines(range.start, range.end - range.start) {
                    if let Some(pending) = self.pending.get_mut(&at) {
                        let old = pending.flushed.insert(*cpu, pending.contents.len());
                        effective |= old != Some(pending.contents.len());
                    }
                }
                effective
            }
            Event::Fenced(cpu) => self.fence(*cpu),
            Event::Settled(range) => self.settle(range.start, range.end - range.start),
            Event::Marked(_) => false,
        }
    }

    /// A word as it is durable.
    #[must_use]
    pub fn durable_word(&self, at: u64) -> u64 {
        self.durable.word(at)
    }

    /// Whether a fence of that CPU would make anything durable.
    #[must_use]
    pub fn fence_matters(&self, cpu: Cpu) -> bool {
        self.pending.values().any(|pending| pending.flushed.contains_key(&cpu))
    }

    /// Offsets of lines that may lack what was stored to them.
    #[must_use]
    pub fn pending_lines(&self) -> Vec<u64> {
        self.pending.keys().copied().collect()
    }

    fn store(&mut self, words: &[(u64, u64)]) -> bool {
        let mut rest = words;
        while let Some(&(at, _)) = rest.first() {
            let line_at = at / LINE_BYTES * LINE_BYTES;
            let len = rest.iter().take_while(|(at, _)| at / LINE_BYTES * LINE_BYTES == line_at).count();
            let (now, later) = rest.split_at(len);
            self.store_line(line_at, now);
            rest = later;
        }
        !words.is_empty()
    }

    /// Words of one store or bulk write to one line. A bulk write's order is not known: it may have got
    /// as far as any word from the front, or from the back.
    fn store_line(&mut self, line_at: u64, words: &[(u64, u64)]) {
        let durable = &self.durable;
        let pending = self
            .pending
            .entry(line_at)
            .or_insert_with(|| Pending { contents: Vec::new(), flushed: BTreeMap::new() });
        let before = pending.contents.last().copied().unwrap_or_else(|| durable.line(line_at));
        let put = |line: &mut Line, &(at, value): &(u64, u64)| {
            let within = (at - line_at) as usize;
            line[within..within + 8].copy_from_slice(&value.to_le_bytes());
        };
        let mut backward = before;
        for word in words.iter().skip(1).rev() {
            put(&mut backward, word);
            pending.contents.push(backward);
        }
        let mut forward = before;
        for word in words {
            put(&mut forward, word);
            pending.contents.push(forward);
        }
    }

    fn fence(&mut self, cpu: Cpu) -> bool {
        let covered = |pending: &Pending| pending.flushed.get(&cpu).copied();
        let settled: Vec<(u64, usize)> =
            self.pending.iter().filter_map(|(&at, pending)| Some((at, covered(pending)?))).collect();
        for &(at, len) in &settled {
            self.settle_line(at, len);
        }
        !settled.is_empty()
    }

    fn settle(&mut self, at: u64, len_bytes: u64) -> bool {
        let mut effective = false;
        for at in lines(at, len_bytes) {
            if let Some(pending) = self.pending.get(&at) {
                self.settle_line(at, pending.contents.len());
                effective = true;
            }
        }
        effective
    }

    /// Makes durable what the line held after the first `len` of its pending contents.
    fn settle_line(&mut self, at: u64, len: usize) {
        let Some(pending) = self.pending.get_mut(&at) else { return };
        let content = pending.contents[len - 1];
        pending.contents.drain(..len);
        pending.flushed.retain(|_, flushed| {
            *flushed = flushed.saturating_sub(len);
            *flushed > 0
        });
        if pending.contents.is_empty() {
            self.pending.remove(&at);
        }
        self.durable_hash ^= line_hash(at, &self.durable.line(at)) ^ line_hash(at, &content);
        self.durable.write(at, &content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(at: u64, value: u64) -> Event {
        Event::Stored(vec![(at, value)])
    }

    fn possible(media: &Media, line: u64, word: usize) -> Vec<u8> {
        media.pending[&line].contents.iter().map(|content| content[word * 8]).collect()
    }

    #[test]
    fn a_fence_settles_what_the_flush_saw_and_no_more() {
        let mut media = Media::new(Image::zeroed(4096));
        for event in [stored(0, 1), stored(8, 2), Event::Flushed(0, 0..16), stored(0, 3)] {
            media.apply(&event);
        }
        assert_eq!(possible(&media, 0, 0), [1, 1, 3]);
        media.apply(&Event::Fenced(0));
        assert_eq!((media.durable.word(0), media.durable.word(8)), (1, 2));
        assert_eq!(possible(&media, 0, 0), [3]);
    }

    #[test]
    fn a_fence_without_flush_settles_nothing() {
        let mut media = Media::new(Image::zeroed(4096));
        media.apply(&stored(64, 7));
        assert!(!media.apply(&Event::Fenced(0)));
        assert_eq!(media.durable.word(64), 0);
        assert_eq!(media.pending_lines(), [64]);
    }

    #[test]
    fn a_fence_does_not_wait_for_what_another_cpu_flushed() {
        let mut media = Media::new(Image::zeroed(4096));
        for event in [stored(0, 1), Event::Flushed(1, 0..8), Event::Fenced(0)] {
            media.apply(&event);
        }
        assert_eq!(media.durable.word(0), 0);
        media.apply(&Event::Fenced(1));
        assert_eq!(media.durable.word(0), 1);
    }

    #[test]
    fn a_bulk_write_may_stop_from_either_end() {
        let mut media = Media::new(Image::zeroed(4096));
        media.apply(&Event::Stored(vec![(0, 1), (8, 2), (16, 3), (64, 4)]));
        let contents = &media.pending[&0].contents;
        let words: Vec<_> = contents.iter().map(|line| [line[0], line[8], line[16]]).collect();
        assert_eq!(words, [[0, 0, 3], [0, 2, 3], [1, 0, 0], [1, 2, 0], [1, 2, 3]]);
        assert_eq!(media.pending[&64].contents.len(), 1);
    }
}
