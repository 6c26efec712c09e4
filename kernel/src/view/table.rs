//! Upper page-table entries: those over objects' own trees.

use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::Rights;
use twizzler_store::FrameNo;

use crate::memory::direct;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Preset, so that hardware never writes to a table.
const ACCESSED: u64 = 1 << 5;
const NO_EXECUTE: u64 = 1 << 63;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Entries of a table.
pub(crate) const ENTRIES: usize = 512;

/// An entry that permits everything and leaves the rights to others.
pub(crate) const fn link(frame: FrameNo) -> u64 {
    frame.physical() | PRESENT | WRITE | USER | ACCESSED
}

/// An entry that grants these rights, at most, to all below. Whatever is mapped can be read.
pub(crate) const fn granting(frame: FrameNo, rights: Rights) -> u64 {
    let write = if rights.contains(Rights::WRITE) { WRITE } else { 0 };
    let no_execute = if rights.contains(Rights::EXECUTE) { 0 } else { NO_EXECUTE };
    frame.physical() | PRESENT | USER | ACCESSED | write | no_execute
}

/// The frame that an entry names, if it is present.
pub(crate) const fn target(entry: u64) -> Option<FrameNo> {
    if entry & PRESENT == 0 { None } else { Some(FrameNo::of(entry & FRAME)) }
}

/// Loads an entry of a table that is in DRAM and not freed.
pub(crate) fn get(table: FrameNo, index: usize) -> u64 {
    word(table, index).load(Ordering::Acquire)
}

/// Stores an entry of a table that is in DRAM and not freed. The MMU sees it with all that was stored before.
pub(crate) fn set(table: FrameNo, index: usize, entry: u64) {
    word(table, index).store(entry, Ordering::Release);
}

fn word(table: FrameNo, index: usize) -> &'static AtomicU64 {
    assert!(index < ENTRIES, "tables have 512 entries");
    let at = direct::pointer(table.physical() + 8 * index as u64);
    // SAFETY: a DRAM frame's word: mapped in the direct map for good, aligned, and, in tables, accessed
    // as atomic words only.
    unsafe { AtomicU64::from_ptr(at.cast()) }
}
