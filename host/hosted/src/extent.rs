//! Ranges of objects, as the pages that space is set aside for.

use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;

use twizzler_abi::Error;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::METADATA_OFFSET;

/// Space is set aside in steps that grow with the object, so that growing it costs few calls.
const STEP_BYTES_MAX: u64 = 16 << 20;

/// The largest piece of memory that the host makes by reading ahead. Each begins at a multiple of its size.
const PIECE_BYTES: u64 = 2 << 20;

/// Where what a program sees first of an object ends: read page by page, as what is set aside later.
pub(crate) const FIRST_BYTES: u64 = 128 << 10;

/// Pages that a range touches in an object of so many bytes, as bytes.
pub(crate) fn pages_of(offset: u64, len_bytes: u64, object_bytes: u64) -> Result<Range<u64>, Error> {
    let end = offset.checked_add(len_bytes).filter(|&end| end <= object_bytes).ok_or(Error::OutOfRange)?;
    let start = offset / PAGE_BYTES * PAGE_BYTES;
    if start < METADATA_OFFSET { Err(Error::OutOfRange) } else { Ok(start..end.next_multiple_of(PAGE_BYTES)) }
}

/// Where the next step ends, for an object that is to have space up to `end`.
pub(crate) fn step_end(end: u64, object_bytes: u64) -> u64 {
    let step = (end.next_power_of_two() / 8).clamp(PAGE_BYTES, STEP_BYTES_MAX);
    end.next_multiple_of(step).min(object_bytes)
}

/// Lets the host forget what it has read ahead from `from` on, up to the end of what is set aside, and beyond that the rest of the piece of memory that may begin
/// before: at the first store to a page, ext4 finds a place for the whole of its piece, so that on a full disk a store to what is set aside
/// would be SIGBUS for want of a place for the hole behind it.
pub(crate) fn forget_ahead(file: &File, from: u64, end: u64, is_in_memory: impl FnOnce(u64) -> bool) {
    let piece = end / PIECE_BYTES * PIECE_BYTES;
    forget(file, if from == end { piece } else { from }, end);
    // One that begins before `from` is kept where that is all that is forgotten. It is looked for first: dirty pages that are to be forgotten are written back. What a program
    // sees first of an object is in memory in any case, page by page.
    if piece < from && end > FIRST_BYTES && is_in_memory(end) {
        forget(file, piece, end);
    }
}

/// Lets the host forget pieces of memory that lie between `from` and the end of the one at `end`.
fn forget(file: &File, from: u64, end: u64) {
    // None would be all of the file.
    if let Some(len) = NonZeroU64::new(end.next_multiple_of(PIECE_BYTES) - from) {
        // Refused: it stays as it is.
        let _ = rustix::fs::fadvise(file, from, Some(len), rustix::fs::Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{Advice, FallocateFlags};
    use twizzler_abi::SizeClass;
    use twizzler_abi::address::{LARGE_BYTES, SLOT_BYTES};
    use twizzler_slots::Reserved;

    use super::*;
    use crate::mapped::Mapping;
    use crate::medium::{self, Medium};

    #[test]
    fn no_piece_stays_in_memory_that_reaches_over_the_end() {
        let file = tempfile::tempfile().expect("room");
        if medium::look(&file).ok() != Some(Medium::Disk) {
            return; // memory that is the file itself is never forgotten
        }
        file.set_len(SLOT_BYTES).expect("sparse");
        let memory = Reserved::new(SizeClass::Small).expect("a slot");
        memory.show_file(&file, true, rustix::mm::MapFlags::SHARED).expect("mapped");
        let mapping = Mapping::new(memory);
        // Odd numbers of pages, so that a large piece that holds the end also holds what is before.
        for pages in [315, 1301, 1923] {
            let (before, end) = ((pages - 1) * PAGE_BYTES, pages * PAGE_BYTES);
            rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, before).expect("room");
            // As another program that reads all of it.
            rustix::fs::fadvise(&file, 0, None, Advice::Sequential).expect("heeded");
            (&file).take(4 * PIECE_BYTES).read_to_end(&mut Vec::new()).expect("readable");
            assert!(mapping.is_in_memory(end));
            rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, before, PAGE_BYTES).expect("room");
            forget_ahead(&file, before, end, |offset| mapping.is_in_memory(offset));
            assert!(!mapping.is_in_memory(end), "after {pages} pages");
            std::io::Seek::rewind(&mut &file).expect("a file");
        }
    }

    #[test]
    fn steps_grow_with_the_object() {
        assert_eq!(step_end(3 * PAGE_BYTES, SLOT_BYTES), 3 * PAGE_BYTES);
        assert_eq!(step_end((1 << 20) + 1, SLOT_BYTES), (1 << 20) + (1 << 18));
        assert_eq!(step_end(SLOT_BYTES - 1, SLOT_BYTES), SLOT_BYTES);
        assert_eq!(step_end((512 << 20) + 1, SLOT_BYTES), (512 << 20) + STEP_BYTES_MAX);
        assert_eq!(step_end(SLOT_BYTES + 1, LARGE_BYTES), SLOT_BYTES + STEP_BYTES_MAX);
    }

    #[test]
    fn ranges_stay_within_the_object() {
        assert_eq!(pages_of(0x3001, 1, SLOT_BYTES), Ok(0x3000..0x4000));
        assert_eq!(pages_of(0xfff, 2, SLOT_BYTES), Err(Error::OutOfRange));
        assert_eq!(pages_of(SLOT_BYTES, 1, SLOT_BYTES), Err(Error::OutOfRange));
        assert_eq!(pages_of(SLOT_BYTES, 1, LARGE_BYTES), Ok(SLOT_BYTES..SLOT_BYTES + PAGE_BYTES));
        assert_eq!(pages_of(u64::MAX, 2, LARGE_BYTES), Err(Error::OutOfRange));
    }
}
