//! Making a store.
//!
//! Order: the magic of the first superblock says that a format goes on, durably; then everything else; fence; then the
//! magic: that store is the commit. A power cut before leaves a region that mounts as unformatted.

use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

use crate::mount::MountError;
use crate::superblock::{BUCKET_FRAME, COPY_FRAMES, FORMATTING, MAGIC, ROOT_FRAME, State, Superblock};
use crate::table::bucket;
use crate::table::node::{Node, WORDS};
use crate::table::word::{NodeWord, Target};

/// Smallest region that can be formatted.
pub const MIN_BYTES: u64 = 2 << 20;

/// What a new store is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FormatOptions {
    /// Tells stores apart: random.
    pub uuid: [u8; 16],
    /// Physical address at which the machine has the region. A tool that doesn't know it says
    /// [`FormatOptions::USUAL_BASE`]; the machine then relocates an empty store, which costs nothing.
    pub base: u64,
}

impl FormatOptions {
    /// Where QEMU's q35 puts an NVDIMM that comes after less than 4 GiB of memory.
    pub const USUAL_BASE: u64 = 1 << 32;
}

/// Makes an empty store of the whole region. What was there is lost.
pub(crate) fn format<P: Persist>(media: &P, options: &FormatOptions) -> Result<(), MountError> {
    let frames = media.len_bytes() / PAGE_BYTES;
    if media.len_bytes() < MIN_BYTES {
        return Err(MountError::TooSmall { len_bytes: media.len_bytes() });
    }
    if !options.base.is_multiple_of(PAGE_BYTES) {
        return Err(MountError::BadBase { base: options.base });
    }
    let written = || COPY_FRAMES.into_iter().chain([ROOT_FRAME, BUCKET_FRAME]);
    if !written().all(|frame| media.make_room(frame * PAGE_BYTES, PAGE_BYTES)) {
        return Err(MountError::NoRoom);
    }
    media.store(0, FORMATTING);
    media.persist(0, 8);
    for frame in written() {
        // All but the magic.
        let at = frame * PAGE_BYTES + if frame == COPY_FRAMES[0] { 8 } else { 0 };
        media.zero(at, (frame + 1) * PAGE_BYTES - at);
        media.flush(at, (frame + 1) * PAGE_BYTES - at);
    }
    bucket::write_header(media, BUCKET_FRAME, &options.uuid);
    let node = Node { frame: ROOT_FRAME, level: 0 };
    let word = NodeWord { target: Target::Bucket { depth: 0 }, frame: BUCKET_FRAME };
    (0..WORDS).for_each(|index| node.store(media, index, word));
    let superblock = Superblock::new(options.uuid, frames * PAGE_BYTES);
    for copy in [0, 1] {
        State::new(options.base).write_first(media, copy);
    }
    superblock.write(media, 1);
    Superblock { magic: FORMATTING, ..superblock }.write(media, 0);
    media.fence();
    // COMMIT: there is a store.
    media.store(0, MAGIC);
    media.persist(0, 8);
    Ok(())
}
