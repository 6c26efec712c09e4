//! The bytes of a region, cheap to copy: pages are shared until one is written.

use std::sync::Arc;

use twizzler_pmem::LINE_BYTES;

use crate::rng::mix;

const PAGE: usize = 4096;
const LINE: usize = LINE_BYTES as usize;

/// Content of a cache line.
pub type Line = [u8; LINE];

/// Content of a page.
pub type Page = [u8; PAGE];

/// Content of a region at one moment.
#[derive(Clone)]
pub struct Image {
    pages: Vec<Arc<Page>>,
}

impl Image {
    /// Zeros.
    ///
    /// # Panics
    /// If the length is not a multiple of 4096.
    #[must_use]
    pub fn zeroed(len_bytes: u64) -> Self {
        let len = usize::try_from(len_bytes).expect("a test's image fits the host's memory");
        assert!(len.is_multiple_of(PAGE), "an image is whole pages");
        Self {
            pages: {
                let zeros = Arc::new([0; PAGE]);
                vec![zeros; len / PAGE]
            },
        }
    }

    /// Bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// Copies out.
    pub fn read(&self, at: u64, buffer: &mut [u8]) {
        self.check(at, buffer.len());
        let mut at = at as usize;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = at % PAGE;
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE - within));
            now.copy_from_slice(&self.pages[at / PAGE][within..within + now.len()]);
            at += now.len();
            rest = later;
        }
    }

    /// Copies in.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        self.check(at, bytes.len());
        let mut at = at as usize;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at % PAGE;
            let (now, later) = rest.split_at(rest.len().min(PAGE - within));
            let page = &mut self.pages[at / PAGE];
            if page[within..within + now.len()] != *now {
                Arc::make_mut(page)[within..within + now.len()].copy_from_slice(now);
            }
            at += now.len();
            rest = later;
        }
    }

    /// A word.
    #[must_use]
    pub fn word(&self, at: u64) -> u64 {
        self.check(at, 8);
        assert!(at.is_multiple_of(8), "word at {at:#x} is not aligned");
        let within = at as usize % PAGE;
        let bytes = &self.pages[at as usize / PAGE][within..within + 8];
        u64::from_le_bytes(bytes.try_into().expect("8 bytes"))
    }

    /// The line at an offset that is a multiple of the line's length.
    #[must_use]
    pub fn line(&self, at: u64) -> Line {
        let mut line = [0; LINE];
        self.read(at, &mut line);
        line
    }

    /// A page by number. Two images that share a page have the same `Arc`.
    #[must_use]
    pub fn page(&self, number: usize) -> &Arc<Page> {
        &self.pages[number]
    }

    /// All bytes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.pages.iter().flat_map(|page| page.iter().copied()).collect()
    }

    fn check(&self, at: u64, len: usize) {
        let end = at.checked_add(len as u64);
        assert!(
            end.is_some_and(|end| end <= self.len_bytes()),
            "{len} bytes at {at:#x} are not in the region"
        );
    }
}

/// A number that stands for a line's place and content; an image's is the XOR over its lines.
pub(crate) fn line_hash(at: u64, line: &Line) -> u64 {
    let words = line.as_chunks::<8>().0;
    words.iter().fold(mix(at.wrapping_add(1)), |hash, word| mix(hash ^ u64::from_le_bytes(*word)))
}
