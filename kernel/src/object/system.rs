//! The system object: what the kernel tells everyone, in memory.
//!
//! Its fields are words that lie in pages of a volatile object, whose addresses are kept here. Counters
//! are counted there directly; gauges are refreshed now and then by whoever passes the scheduler.

use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::system::{SYSTEM_ID, System, THREADS_MAX};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_sched::WordKey;
use zerocopy::{FromZeros, IntoBytes};

use super::{create, nvm};
use crate::machine::start_info::Boot;
use crate::machine::{clock, cpu, serial, tlb};
use crate::memory::frames;
use crate::thread::scheduler;

const PAGES: usize = size_of::<System>().div_ceil(PAGE_BYTES as usize);

/// The pages from the object's base on; null before [`publish`].
static PAGE: [AtomicPtr<u8>; PAGES] = [const { AtomicPtr::new(ptr::null_mut()) }; PAGES];
/// When gauges were last refreshed.
static REFRESHED_NS: AtomicU64 = AtomicU64::new(0);
/// How old gauges may be.
const REFRESH_NS: u64 = 1_000_000;

/// A word that is counted where it is published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counter {
    /// Page faults that were resolved.
    FaultsResolved,
    /// Of them, those that filled a page.
    FaultsFilled,
    /// Calls.
    Calls,
    /// Switches between threads.
    Switches,
    /// Volatile objects there are.
    ObjectsVolatile,
}

impl Counter {
    const fn offset(self) -> usize {
        match self {
            Self::FaultsResolved => offset_of!(System, faults_resolved),
            Self::FaultsFilled => offset_of!(System, faults_filled),
            Self::Calls => offset_of!(System, calls),
            Self::Switches => offset_of!(System, switches),
            Self::ObjectsVolatile => offset_of!(System, objects_volatile),
        }
    }
}

/// Makes the object. Afterwards the functions here have a place to write to.
///
/// # Errors
/// No memory.
pub(crate) fn publish(boot: &Boot) -> Result<(), Error> {
    let object = create::published(SYSTEM_ID, Rights::READ)?;
    object.pin()?;
    let header = Header { len_bytes: size_of::<System>() as u64, ..Header::new_zeroed() };
    object.write(HEADER_OFFSET, header.as_bytes())?;
    for (place, offset) in PAGE.iter().zip((BASE_OFFSET..).step_by(PAGE_BYTES as usize)) {
        place.store(object.resident(offset)?.as_ptr(), Ordering::Release);
    }
    add(Counter::ObjectsVolatile, 1);
    let (tsc_base, tsc_multiplier) = clock::scale();
    for (offset, value) in [
        (offset_of!(System, version), 1),
        (offset_of!(System, tsc_base), tsc_base),
        (offset_of!(System, tsc_multiplier), tsc_multiplier),
        (offset_of!(System, epoch_s), clock::epoch_s()),
        (offset_of!(System, cpus), cpu::count() as u64),
        (offset_of!(System, dram_bytes), frames::total_count() * PAGE_BYTES),
    ] {
        set(offset, value);
    }
    let text = boot.command_line.as_bytes();
    for (index, word) in text.chunks(8).take(twizzler_abi::system::CMDLINE_BYTES / 8).enumerate() {
        let mut bytes = [0; 8];
        bytes[..word.len()].copy_from_slice(word);
        set(offset_of!(System, cmdline) + 8 * index, u64::from_le_bytes(bytes));
    }
    refresh_now();
    Ok(())
}

/// The word at an offset in [`System`].
fn word(offset: usize) -> Option<&'static AtomicU64> {
    let page = PAGE[offset / PAGE_BYTES as usize].load(Ordering::Acquire);
    if page.is_null() || !offset.is_multiple_of(8) {
        return None;
    }
    // SAFETY: the offset is within the page.
    let word = unsafe { page.add(offset % PAGE_BYTES as usize) };
    // SAFETY: the page belongs to an object that is pinned for good, is mapped in the direct map, and is
    // read by users only; the word is aligned, by the check above.
    Some(unsafe { AtomicU64::from_ptr(word.cast()) })
}

/// Sets a word of [`System`].
pub(crate) fn set(offset: usize, value: u64) {
    if let Some(word) = word(offset) {
        word.store(value, Ordering::Release);
    }
}

/// Counts one.
pub(crate) fn count(counter: Counter) {
    add(counter, 1);
}

/// Counts more.
pub(crate) fn add(counter: Counter, more: u64) {
    if let Some(word) = word(counter.offset()) {
        word.fetch_add(more, Ordering::Relaxed);
    }
}

/// Counts down.
pub(crate) fn subtract(counter: Counter, less: u64) {
    if let Some(word) = word(counter.offset()) {
        word.fetch_sub(less, Ordering::Relaxed);
    }
}

/// Lists a thread, or a free entry, in the table. Under the scheduler's lock.
pub(crate) fn list_thread(index: usize, id: Option<ObjId>) {
    if index >= THREADS_MAX {
        return;
    }
    let id = id.unwrap_or(ObjId::NONE);
    let at = offset_of!(System, threads) + index * size_of::<ObjId>();
    set(at + offset_of!(ObjId, hi), id.hi);
    set(at + offset_of!(ObjId, lo), id.lo);
    if let Some(len) = word(offset_of!(System, threads_len)) {
        len.fetch_max(index as u64 + 1, Ordering::Release);
    }
}

/// Publishes that Ctrl-C was pressed, if it was.
pub(crate) fn note_console_interrupts() {
    let offset = offset_of!(System, console_interrupts);
    let now = serial::console_interrupts();
    if let Some(word) = word(offset)
        && word.swap(now, Ordering::AcqRel) != now
    {
        scheduler::wake(WordKey { object: SYSTEM_ID, offset: BASE_OFFSET + offset as u64 }, u64::MAX);
    }
}

/// Refreshes the gauges if they are old.
pub(crate) fn refresh() {
    let now = clock::now_ns();
    let last = REFRESHED_NS.load(Ordering::Relaxed);
    let due = now.saturating_sub(last) >= REFRESH_NS;
    if due && REFRESHED_NS.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        refresh_now();
    }
}

fn refresh_now() {
    set(offset_of!(System, dram_free_bytes), frames::free_count() * PAGE_BYTES);
    set(offset_of!(System, shootdowns), tlb::shootdowns());
    let traffic = crate::memory::nvm::counts();
    set(offset_of!(System, flushes), traffic.flushes);
    set(offset_of!(System, fences), traffic.fences);
    set(offset_of!(System, nvm_written_bytes), traffic.written_bytes);
    nvm::refresh();
}
