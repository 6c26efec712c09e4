//! Mounting: from bytes that may be anything to a [`Store`] in which every entry has been checked.

use core::fmt;

use lock_api::RawMutex;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

use alloc::vec::Vec;

use crate::error::Error;
use crate::format::MIN_BYTES;
use crate::frames::{FrameNo, HUGE_FRAMES};
use crate::nvm::{Counts, Nvm};
use crate::relocate;
use crate::store::Store;
use crate::superblock::{ARCH_X86_64, FORMATTING, MAGIC, State, Superblock, VERSION, flag};
use crate::survey::{Mode, Quarantined, Region, bytes_of, survey};
use crate::table::Table;

/// Bytes from the start that must all be zero for a region to count as never used.
const BLANK_BYTES: u64 = 2 << 20;

/// How a store is to be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing on media changes.
    ReadOnly,
    /// Interrupted changes are finished, and it counts as a boot.
    ReadWrite,
}

/// How to mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MountOptions {
    /// For reading or for writing.
    pub access: Access,
    /// Physical address at which this machine has the region, for an MMU that is to walk the trees. None: as
    /// recorded, for tools, to whom it doesn't matter.
    pub base: Option<u64>,
}

/// What the mount found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountReport {
    /// Mounts for writing so far, with this one.
    pub boots: u64,
    /// The store had been shut down.
    pub clean: bool,
    /// Objects, those in quarantine too.
    pub objects: u64,
    /// What is kept apart.
    pub quarantine: Vec<Quarantined>,
    /// Frames by use.
    pub counts: Counts,
    /// A copy of the superblock was damaged, and, where mounted for writing, is whole again.
    pub superblock_repaired: bool,
    /// Directory words that were damaged in one copy.
    pub words_damaged: u32,
    /// Directory words that were damaged in both copies: the objects they led to can't be found.
    pub words_lost: u32,
    /// Buckets of the table whose first line was damaged; whole again, where mounted for writing.
    pub headers_damaged: u32,
    /// Directory nodes in which a split was finished or a word repaired.
    pub nodes_settled: u32,
    /// Entries of trees that had become durable and were made present now.
    pub entries_completed: u64,
    /// The trees were rewritten for another physical address.
    pub relocated: bool,
}

/// Why a region can't be mounted, and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MountError {
    /// Nothing but zeros, or a format that was interrupted.
    Unformatted,
    /// Something else lies there.
    NotOurs {
        /// The first eight bytes.
        magic: u64,
    },
    /// Smaller than any store.
    TooSmall {
        /// Bytes that there are.
        len_bytes: u64,
    },
    /// Smaller than the store that lies there.
    Truncated {
        /// Bytes that there are.
        len_bytes: u64,
        /// Bytes that the store has.
        expected_bytes: u64,
    },
    /// Of another version of the format.
    Version {
        /// That version.
        found: u32,
    },
    /// Of another architecture.
    Arch {
        /// That architecture's tag.
        found: u32,
    },
    /// Uses features that this version doesn't know.
    Features {
        /// Of the mask of those that must be known to mount.
        incompat: u32,
        /// Of the mask of those that must be known to mount for writing.
        ro_compat: u32,
    },
    /// Part of a store over several regions.
    SeveralRegions,
    /// Both copies of the superblock are damaged.
    SuperblockDamaged,
    /// Both copies of the state are damaged.
    StateDamaged,
    /// A physical address that no region can have.
    BadBase {
        /// That address.
        base: u64,
    },
    /// The region lies elsewhere than its trees say; to relocate them it must be mounted for writing.
    NeedsRelocation {
        /// Base that the trees count from.
        recorded: u64,
        /// Base that was given.
        base: u64,
    },
    /// The heap is too small for the frame counts.
    OutOfMemory,
    /// What the region lies on has no room for an empty store.
    NoRoom,
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unformatted => f.write_str("the NVM is empty; format it to make a store"),
            Self::NotOurs { magic } => write!(
                f,
                "the NVM holds something that is not a Twizzler store (it starts with {magic:#018x}); nothing was \
                 changed; use another file, or erase this one with zeros to have it formatted"
            ),
            Self::TooSmall { len_bytes } => {
                write!(f, "the NVM has {len_bytes} bytes; a store needs at least {MIN_BYTES}")
            }
            Self::Truncated { len_bytes, expected_bytes } => write!(
                f,
                "the NVM has {len_bytes} bytes, but its store has {expected_bytes}; restore the file's full length"
            ),
            Self::Version { found } => write!(
                f,
                "the store has format version {found}; this system knows version {VERSION}; use the one that made it"
            ),
            Self::Arch { found } => write!(f, "the store was made for another architecture (tag {found:#x})"),
            Self::Features { incompat, ro_compat } => write!(
                f,
                "the store uses features that this system doesn't know (incompat {incompat:#x}, ro_compat \
                 {ro_compat:#x}); use a newer system{}",
                if incompat == 0 { ", or mount it read-only" } else { "" }
            ),
            Self::SeveralRegions => f.write_str("the store spans several NVDIMMs; that is not supported yet"),
            Self::SuperblockDamaged => {
                f.write_str("both copies of the store's superblock are damaged; restore the NVM from a copy")
            }
            Self::StateDamaged => {
                f.write_str("both copies of the store's state are damaged; restore the NVM from a copy")
            }
            Self::BadBase { base } => write!(
                f,
                "a store can't lie at physical address {base:#x}; it must be a multiple of 2 MiB, below 2^52"
            ),
            Self::NeedsRelocation { recorded, base } => write!(
                f,
                "the store lies at {base:#x}, its trees count from {recorded:#x}; mount it for writing to relocate it"
            ),
            Self::OutOfMemory => f.write_str("not enough memory to mount the store"),
            Self::NoRoom => f.write_str("the disk is full"),
        }
    }
}

impl core::error::Error for MountError {}

impl From<Error> for MountError {
    fn from(_: Error) -> Self {
        // The survey takes from the heap; whatever else it meets, it reports.
        Self::OutOfMemory
    }
}

/// Mounts the store in `media`.
pub(crate) fn mount<P: Persist, L: RawMutex>(
    media: P,
    options: &MountOptions,
) -> Result<(Store<P, L>, MountReport), MountError> {
    let (superblock, damaged) = read_superblock(&media)?;
    check_superblock(&media, &superblock, options.access)?;
    let (mut state, _) = State::load(&media).ok_or(MountError::StateDamaged)?;
    let clean = state.has(flag::CLEAN);
    let writes = options.access == Access::ReadWrite;
    if writes {
        for copy in damaged.into_iter().flatten() {
            superblock.write(&media, copy);
        }
        state = State {
            boots: state.boots.wrapping_add(1),
            dirty_boots: state.dirty_boots.wrapping_add(u64::from(!clean && state.boots != 0)),
            ..state.with(flag::CLEAN, false)
        }
        .replace(&media);
    }
    let frames = superblock.len_bytes / PAGE_BYTES;
    let table = Table { media: &media, uuid: superblock.uuid, root: superblock.table };
    let (state, relocated) = relocated(&table, state, frames, options)?;
    let first = FrameNo::of(state.base);
    let region = Region { media: &media, first, generation: relocate::generation(&state) };
    let survey = survey(&region, &table, frames, if writes { Mode::Recover } else { Mode::Look })?;
    let report = MountReport {
        boots: state.boots,
        clean,
        objects: survey.objects,
        quarantine: survey.quarantine.clone(),
        counts: survey.uses.counts(),
        superblock_repaired: damaged != [None; 2],
        words_damaged: survey.directory.words_damaged,
        words_lost: survey.directory.words_lost,
        headers_damaged: survey.directory.headers_damaged,
        nodes_settled: survey.directory.nodes_settled,
        entries_completed: survey.pending,
        relocated,
    };
    let generation = region.generation;
    let nvm = Nvm::new(media, first, generation, survey.uses, options.access);
    Ok((Store::new(nvm, superblock, state, options.access, survey.objects, survey.quarantine), report))
}

/// The superblock, and the copies that are damaged.
fn read_superblock<P: Persist>(media: &P) -> Result<(Superblock, [Option<usize>; 2]), MountError> {
    if media.len_bytes() < MIN_BYTES {
        return Err(MountError::TooSmall { len_bytes: media.len_bytes() });
    }
    let copies = [0, 1].map(|copy| Superblock::read(media, copy));
    if copies[0].is_some_and(|first| first.magic == FORMATTING) {
        return Err(MountError::Unformatted);
    }
    let sound = copies.map(|copy| copy.filter(Superblock::is_sound));
    let damaged = [0, 1].map(|copy: usize| if sound[copy].is_none() { Some(copy) } else { None });
    if let Some(superblock) = sound[0].or(sound[1]) {
        return Ok((superblock, damaged));
    }
    let magics = copies.map(|copy| copy.map(|superblock| superblock.magic));
    if magics.iter().any(|&magic| magic.is_none_or(|magic| magic == MAGIC)) {
        return Err(MountError::SuperblockDamaged);
    }
    if is_blank(media) {
        return Err(MountError::Unformatted);
    }
    Err(MountError::NotOurs { magic: magics[0].unwrap_or(0) })
}

fn is_blank<P: Persist>(media: &P) -> bool {
    let mut line = [0; 64];
    (0..BLANK_BYTES).step_by(line.len()).all(|at| {
        media.check_readable(at, 64).is_ok() && {
            media.read(at, &mut line);
            line == [0; 64]
        }
    })
}

fn check_superblock<P: Persist>(
    media: &P,
    superblock: &Superblock,
    access: Access,
) -> Result<(), MountError> {
    if superblock.version != VERSION {
        return Err(MountError::Version { found: superblock.version });
    }
    if superblock.arch != ARCH_X86_64 || u64::from(superblock.frame_bytes) != PAGE_BYTES {
        return Err(MountError::Arch { found: superblock.arch });
    }
    if superblock.incompat != 0 || (access == Access::ReadWrite && superblock.ro_compat != 0) {
        return Err(MountError::Features { incompat: superblock.incompat, ro_compat: superblock.ro_compat });
    }
    if superblock.regions_len != 1 || superblock.region != 0 {
        return Err(MountError::SeveralRegions);
    }
    if superblock.len_bytes > media.len_bytes() {
        return Err(MountError::Truncated {
            len_bytes: media.len_bytes(),
            expected_bytes: superblock.len_bytes,
        });
    }
    let frames = superblock.len_bytes / PAGE_BYTES;
    if superblock.len_bytes != bytes_of(frames)
        || superblock.len_bytes < MIN_BYTES
        || superblock.table >= frames
    {
        return Err(MountError::SuperblockDamaged);
    }
    Ok(())
}

/// Finishes a relocation that was interrupted, and moves to the base that was given.
fn relocated<P: Persist>(
    table: &Table<'_, P>,
    mut state: State,
    frames: u64,
    options: &MountOptions,
) -> Result<(State, bool), MountError> {
    let highest = (1 << 52) - bytes_of(frames).min(1 << 52);
    if let Some(base) = options.base.filter(|&base| !base.is_multiple_of(PAGE_BYTES) || base > highest) {
        return Err(MountError::BadBase { base });
    }
    if !state.base.is_multiple_of(PAGE_BYTES) || state.base > highest {
        return Err(MountError::StateDamaged);
    }
    let base = options.base.unwrap_or(state.base);
    let interrupted = state.has(flag::RELOCATING);
    if options.access == Access::ReadOnly && (interrupted || base != state.base) {
        return Err(MountError::NeedsRelocation { recorded: state.base, base });
    }
    if interrupted {
        state = relocate::finish(table, state, frames)?;
    }
    if base != state.base {
        // 2 MiB leaves stay aligned. A region that was misaligned has none.
        let huge_bytes = HUGE_FRAMES * PAGE_BYTES;
        if state.base.is_multiple_of(huge_bytes) && !base.is_multiple_of(huge_bytes) {
            return Err(MountError::BadBase { base });
        }
        state = relocate::finish(table, relocate::start(table.media, state, base), frames)?;
        return Ok((state, true));
    }
    Ok((state, interrupted))
}
