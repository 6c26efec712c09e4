//! Reading the log after a crash, or for someone who died.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::log::frame::{self, HEAD_WORDS, Kind, SECTOR};
use crate::log::header::HEADER_BYTES;

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
        }
        Ok(None)
    }

    /// Whether a sound frame further on says that the place where the last one was looked for had been on the disk: then the log doesn't end here, it
    /// is damaged. Batches begin with a sector, so that is where frames are looked for.
    pub(crate) fn was_longer(&self) -> io::Result<bool> {
        const PART_BYTES: u64 = 1 << 20;
        let mut at = self.position.next_multiple_of(SECTOR);
        while at < self.end {
            let in_file = at % self.data_bytes;
            let len = PART_BYTES.min(self.end - at).min(self.data_bytes - in_file);
            let part = self.words(at, (len / 8) as usize)?;
            for (place, sector) in (at..).step_by(SECTOR as usize).zip(part.chunks(SECTOR as usize / 8)) {
                let says = sector.get(1) == Some(&place)
                    && sector.get(3).is_some_and(|&durable| durable > self.position);
                if says && self.frame_at(place)?.is_some() {
                    return Ok(true);
                }
            }
            at += len;
        }
        Ok(false)
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
