//! Reading the log after a crash, or for someone who died.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::log::frame::{self, HEAD_WORDS, Kind, SECTOR};
use crate::log::header::HEADER_BYTES;
use crate::log::shared::RING_BYTES;

/// Reads frames from a position on.
#[derive(Debug)]
pub(crate) struct LogReader<'a> {
    file: &'a File,
    data_bytes: u64,
    epoch: u64,
    /// Where the next frame is looked for.
    position: u64,
    end: u64,
}

/// A sound frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) position: u64,
    pub(crate) kind: Kind,
    pub(crate) words: Vec<u64>,
}

impl<'a> LogReader<'a> {
    /// Frames of that epoch from `start` on, one lap at most.
    pub(crate) fn new(file: &'a File, data_bytes: u64, epoch: u64, start: u64) -> Self {
        Self { file, data_bytes, epoch, position: start, end: start + data_bytes }
    }

    /// Where the last frame that was read ends.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next frame; None: the log ends here.
    pub(crate) fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let here = self.position;
        for at in [here, here.next_multiple_of(SECTOR)] {
            if let Some(frame) = self.frame_at(at)? {
                self.position = at + frame::len_bytes(frame.words.len());
                return Ok(Some(frame));
            }
            if self.is_place_of_frame(at)? {
                // One that is spoiled; what follows is not next.
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// True if a frame has begun here, sound or not.
    fn is_place_of_frame(&self, at: u64) -> io::Result<bool> {
        Ok(self.end.saturating_sub(at) >= frame::len_bytes(0)
            && self.words(at, HEAD_WORDS)?[1] == at
            && at != 0)
    }

    /// Where sound frames go on, if the log is damaged here and doesn't end: one of them says that what is missing had been on the disk. The last
    /// batch may have arrived in part, and its own frames say no more than that it began to be written. Batches begin with a sector, so that is where
    /// frames are looked for.
    pub(crate) fn gap(&self) -> io::Result<Option<u64>> {
        const PART_BYTES: usize = 1 << 20;
        let begin = self.position.next_multiple_of(SECTOR);
        // What is spoiled is a batch, or a record too large for one; whatever comes next begins there at the latest.
        let end = self.end.min(begin + RING_BYTES + self.data_bytes / 4 + PART_BYTES as u64);
        let (mut at, mut first) = (begin, None);
        let mut part = vec![0; PART_BYTES];
        while at < end {
            let in_file = at % self.data_bytes;
            let len = part.len().min((end - at) as usize).min((self.data_bytes - in_file) as usize);
            self.file.read_exact_at(&mut part[..len], HEADER_BYTES + in_file)?;
            for (place, sector) in
                (at..).step_by(SECTOR as usize).zip(part[..len].chunks_exact(SECTOR as usize))
            {
                let durable = word(sector, 3);
                if word(sector, 1) == place
                    && (first.is_none() || durable > begin)
                    && self.frame_at(place)?.is_some()
                {
                    first = first.or(Some(place));
                    if durable > begin {
                        return Ok(first);
                    }
                }
            }
            at += len as u64;
        }
        Ok(None)
    }

    /// Goes on reading there.
    pub(crate) fn skip_to(&mut self, position: u64) {
        self.position = position;
    }

    fn frame_at(&self, at: u64) -> io::Result<Option<Frame>> {
        let room = self.end.saturating_sub(at);
        if room < frame::len_bytes(0) {
            return Ok(None);
        }
        let head: [u64; HEAD_WORDS] =
            self.words(at, HEAD_WORDS)?.try_into().expect("as many as were asked for");
        let Some(len) = frame::words_after(&head, at, room) else { return Ok(None) };
        let words = self.words(at + frame::len_bytes(0), len)?;
        let kind = frame::kind_of(self.epoch, &head, &words);
        Ok(kind.map(|kind| Frame { position: at, kind, words }))
    }

    fn words(&self, at: u64, len: usize) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; len * 8];
        let in_file = at % self.data_bytes;
        let first = bytes.len().min((self.data_bytes - in_file) as usize);
        self.file.read_exact_at(&mut bytes[..first], HEADER_BYTES + in_file)?;
        self.file.read_exact_at(&mut bytes[first..], HEADER_BYTES)?;
        Ok(bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight"))).collect())
    }
}

/// A word of those bytes, by its number.
fn word(bytes: &[u8], number: usize) -> u64 {
    let bytes = bytes[number * 8..].first_chunk().expect("the word is among them");
    u64::from_le_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::frame::{Place, digest, head};

    const DATA_BYTES: u64 = 1 << 16;
    const EPOCH: u64 = 7;

    /// Frames of a log: where, how many words, and what was on the disk by then.
    fn log_of(frames: &[(u64, usize, u64)]) -> File {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(HEADER_BYTES + DATA_BYTES).expect("room");
        for &(position, len, durable) in frames {
            let words = vec![position + 1; len];
            let head = head(Place { epoch: EPOCH, position, durable }, Kind::Record, len, digest(&words));
            let bytes: Vec<u8> = head.iter().chain(&words).flat_map(|word| word.to_le_bytes()).collect();
            file.write_all_at(&bytes, HEADER_BYTES + position).expect("written");
        }
        file
    }

    fn read_to_the_end(file: &File) -> LogReader<'_> {
        let mut reader = LogReader::new(file, DATA_BYTES, EPOCH, 0);
        while reader.next_frame().expect("readable").is_some() {}
        reader
    }

    /// Two batches: one frame, then three, of which the last one begins with a sector.
    const BATCHES: [(u64, usize, u64); 4] = [(0, 10, 0), (512, 20, 512), (704, 36, 512), (1024, 10, 512)];

    #[test]
    fn a_batch_that_arrived_in_part_is_the_end_of_the_log() {
        // By sectors: the second, the third, both.
        for lost in [&[512, 704][..], &[1024], &[512, 704, 1024]] {
            let frames: Vec<_> = BATCHES.into_iter().filter(|(at, ..)| !lost.contains(at)).collect();
            let file = log_of(&frames);
            let reader = read_to_the_end(&file);
            assert_eq!(reader.gap().expect("readable"), None, "{lost:?}");
        }
    }

    #[test]
    fn what_was_on_the_disk_and_is_missing_is_a_gap() {
        let mut frames = BATCHES.to_vec();
        frames.push((1536, 5, 1536));
        for lost in [0, 512, 704, 1024] {
            let file = log_of(&frames);
            file.write_all_at(&[0xa5], HEADER_BYTES + lost + 40).expect("written");
            let mut reader = read_to_the_end(&file);
            let gap = reader.gap().expect("readable").expect("damage");
            assert_eq!(
                gap,
                if lost < 512 {
                    512
                } else if lost < 1024 {
                    1024
                } else {
                    1536
                }
            );
            reader.skip_to(gap);
            assert_eq!(reader.next_frame().expect("readable").map(|frame| frame.position), Some(gap));
        }
        let whole = log_of(&frames);
        assert_eq!(read_to_the_end(&whole).gap().expect("readable"), None);
    }
}
