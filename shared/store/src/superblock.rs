//! The superblock: what the region is, twice; and beside it the *state*, the few words of the store itself that
//! change, also twice. ◆
//!
//! The superblock is written by [`crate::Store::format`] alone. A copy of the state is replaced by writing its words, which
//! its old check refuses from then on, persisting them, and storing the last word, which holds sequence number and check:
//! that store is the commit. The older copy goes first, then the other: a reader takes the sound copy with the higher
//! number. So there is a sound copy at every moment, and both are equal but in between.

use twizzler_abi::ObjId;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// "TWZSTORE".
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"TWZSTORE");
/// In the place of the magic while the format goes on.
pub(crate) const FORMATTING: u64 = u64::from_le_bytes(*b"TWZFORM\0");
/// Version of the format.
pub const VERSION: u32 = 1;
/// x86-64 page trees.
pub(crate) const ARCH_X86_64: u32 = 0x8664;
/// Frames that hold the copies.
pub(crate) const COPY_FRAMES: [u64; 2] = [0, 256];
/// Frame of the object table's first node, when formatted.
pub(crate) const ROOT_FRAME: u64 = 1;
/// Frame of its first bucket.
pub(crate) const BUCKET_FRAME: u64 = 2;
/// Offset of the state in its frame.
pub(crate) const STATE_OFFSET: u64 = 1024;

/// What a region is. Written once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Superblock {
    pub(crate) magic: u64,
    pub(crate) version: u32,
    pub(crate) arch: u32,
    /// Features that a reader may ignore.
    pub(crate) compat: u32,
    /// Features that whoever doesn't know them must not mount.
    pub(crate) incompat: u32,
    /// Features that whoever doesn't know them must not mount for writing.
    pub(crate) ro_compat: u32,
    pub(crate) frame_bytes: u32,
    pub(crate) uuid: [u8; 16],
    /// Bytes of the region.
    pub(crate) len_bytes: u64,
    /// Frame of the object table's first node.
    pub(crate) table: u64,
    /// Regions of the store. 1 for now.
    pub(crate) regions_len: u32,
    /// Which of them this is. 0 for now.
    pub(crate) region: u32,
    /// Reserved: UUID and length of each other region.
    pub(crate) regions: [[u64; 3]; 7],
    pub(crate) reserved: [u32; 3],
    /// CRC-32 of all bytes before.
    pub(crate) checksum: u32,
}

const _: () = assert!(size_of::<Superblock>() == 256);

impl Superblock {
    pub(crate) fn new(uuid: [u8; 16], len_bytes: u64) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            arch: ARCH_X86_64,
            frame_bytes: PAGE_BYTES as u32,
            uuid,
            len_bytes,
            table: ROOT_FRAME,
            regions_len: 1,
            ..Self::new_zeroed()
        }
        .sealed()
    }

    pub(crate) fn sealed(mut self) -> Self {
        self.checksum = self.computed_checksum();
        self
    }

    fn computed_checksum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32fast::hash(&bytes[..bytes.len() - 4])
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.magic == MAGIC && self.checksum == self.computed_checksum()
    }

    /// A copy, as it lies there. None: unreadable.
    pub(crate) fn read<P: Persist>(media: &P, copy: usize) -> Option<Self> {
        let at = COPY_FRAMES[copy] * PAGE_BYTES;
        let mut bytes = [0; size_of::<Self>()];
        if at + PAGE_BYTES > media.len_bytes() || media.check_readable(at, bytes.len() as u64).is_err() {
            return None;
        }
        media.read(at, &mut bytes);
        Some(zerocopy::transmute!(bytes))
    }

    /// Writes a copy and flushes it.
    pub(crate) fn write<P: Persist>(&self, media: &P, copy: usize) {
        let at = COPY_FRAMES[copy] * PAGE_BYTES;
        media.write(at, self.as_bytes());
        media.flush(at, size_of::<Self>() as u64);
    }
}

/// What of the store itself changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct State {
    /// Root object of the persistent names, or none.
    pub(crate) names_root: ObjId,
    /// Physical address of the region's first byte, which entries of the current generation count from.
    pub(crate) base: u64,
    /// The same for entries of the other generation, while they are relocated.
    pub(crate) other_base: u64,
    /// Mounts for writing.
    pub(crate) boots: u64,
    /// [`flag`]s.
    pub(crate) flags: u64,
    /// Mounts for writing that found the store not shut down.
    pub(crate) dirty_boots: u64,
    /// Reserved: no clock may run behind it.
    pub(crate) time_floor_ns: u64,
    pub(crate) reserved: [u64; 7],
    /// CRC-32 of all before and the sequence number, and, in the low half, that number.
    pub(crate) commit: u64,
}

const _: () = assert!(size_of::<State>() == 128);
const COMMIT_OFFSET: u64 = size_of::<State>() as u64 - 8;

/// Bits of [`State::flags`].
pub(crate) mod flag {
    /// The store was shut down.
    pub(crate) const CLEAN: u64 = 1 << 0;
    /// Entries of the other generation count from `other_base`, and are being rewritten.
    pub(crate) const RELOCATING: u64 = 1 << 1;
    /// Generation bit of entries that count from `base`.
    pub(crate) const GENERATION: u64 = 1 << 2;
}

impl State {
    pub(crate) fn new(base: u64) -> Self {
        Self { base, other_base: base, ..Self::new_zeroed() }.numbered(1)
    }

    fn numbered(mut self, sequence: u32) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.as_bytes()[..COMMIT_OFFSET as usize]);
        hasher.update(&sequence.to_le_bytes());
        self.commit = u64::from(hasher.finalize()) << 32 | u64::from(sequence);
        self
    }

    const fn sequence(&self) -> u32 {
        self.commit as u32
    }

    pub(crate) const fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn with(mut self, flag: u64, on: bool) -> Self {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
        self
    }

    fn read<P: Persist>(media: &P, copy: usize) -> Option<Self> {
        let at = COPY_FRAMES[copy] * PAGE_BYTES + STATE_OFFSET;
        let mut bytes = [0; size_of::<Self>()];
        media.check_readable(at, bytes.len() as u64).ok()?;
        media.read(at, &mut bytes);
        let state: Self = zerocopy::transmute!(bytes);
        (state.numbered(state.sequence()) == state).then_some(state)
    }

    /// The state that holds, and the copy that it lies in.
    pub(crate) fn load<P: Persist>(media: &P) -> Option<(Self, usize)> {
        let copies = [0, 1].map(|copy| Self::read(media, copy).map(|state| (state, copy)));
        copies.into_iter().flatten().max_by_key(|(state, copy)| (state.sequence(), 1 - copy))
    }

    /// Writes the first copies.
    pub(crate) fn write_first<P: Persist>(self, media: &P, copy: usize) {
        let at = COPY_FRAMES[copy] * PAGE_BYTES + STATE_OFFSET;
        media.write(at, self.as_bytes());
        media.flush(at, size_of::<Self>() as u64);
    }

    /// Makes this the state, in both copies: first in the one that does not hold the current one.
    pub(crate) fn replace<P: Persist>(self, media: &P) -> Self {
        let (sequence, holder) = Self::load(media).map_or((0, 1), |(state, copy)| (state.sequence(), copy));
        let new = self.numbered(sequence.wrapping_add(1));
        for copy in [1 - holder, holder] {
            let at = COPY_FRAMES[copy] * PAGE_BYTES + STATE_OFFSET;
            media.write(at, &new.as_bytes()[..COMMIT_OFFSET as usize]);
            media.persist(at, COMMIT_OFFSET);
            // COMMIT: this copy holds the new state.
            media.store(at + COMMIT_OFFSET, new.commit);
            media.persist(at + COMMIT_OFFSET, 8);
        }
        new
    }
}
