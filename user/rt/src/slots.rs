//! Which slots this program uses, and the entries of its view.
//!
//! Slots are handed out round robin, so that an address is not reused at once.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use twizzler_abi::address::{LARGE_SLOTS, SLOTS_PER_PML4, SMALL_SLOTS, Slot, band};
use twizzler_abi::object::METADATA_OFFSET;
use twizzler_abi::view::{ViewEntry, entry_offset};
use twizzler_abi::{Error, ObjId, Rights, SizeClass};

use crate::{call, memory};

const SMALL_COUNT: u32 = SMALL_SLOTS.end - SMALL_SLOTS.start;
const LARGE_COUNT: u32 = (LARGE_SLOTS.end - LARGE_SLOTS.start) / SLOTS_PER_PML4;

/// The slots of one size: one bit for each, and where the next search starts.
struct Slots<const WORDS: usize> {
    first: u32,
    count: u32,
    /// Slots from one to the next.
    step: u32,
    used: [AtomicU64; WORDS],
    next: AtomicU32,
}

static SMALL: Slots<{ SMALL_COUNT.div_ceil(64) as usize }> = Slots::new(SMALL_SLOTS.start, SMALL_COUNT, 1);
static LARGE: Slots<{ LARGE_COUNT.div_ceil(64) as usize }> =
    Slots::new(LARGE_SLOTS.start, LARGE_COUNT, SLOTS_PER_PML4);

impl<const WORDS: usize> Slots<WORDS> {
    const fn new(first: u32, count: u32, step: u32) -> Self {
        let used = [const { AtomicU64::new(0) }; WORDS];
        Self { first, count, step, used, next: AtomicU32::new(0) }
    }

    fn take(&self) -> Result<Slot, Error> {
        for _ in 0..self.count {
            let index = self.next.fetch_add(1, Ordering::Relaxed) % self.count;
            let bit = 1 << (index % 64);
            if self.used[index as usize / 64].fetch_or(bit, Ordering::Acquire) & bit == 0 {
                return Slot::new(self.first + index * self.step).ok_or(Error::TooMany);
            }
        }
        Err(Error::TooMany)
    }

    fn give_back(&self, slot: Slot) {
        let index = slot.number().checked_sub(self.first).map(|beyond| beyond / self.step);
        if let Some(index) = index.filter(|&index| index < self.count) {
            self.used[index as usize / 64].fetch_and(!(1 << (index % 64)), Ordering::Release);
        }
    }
}

/// Takes a slot for objects of this class.
///
/// # Errors
/// [`Error::TooMany`] where all are in use; [`Error::NotSupported`] for tiny objects.
pub fn take(class: SizeClass) -> Result<Slot, Error> {
    match class {
        SizeClass::Small => SMALL.take(),
        SizeClass::Large => LARGE.take(),
        SizeClass::Tiny => Err(Error::NotSupported),
    }
}

/// Gives a slot back. What was mapped there must have been unmapped.
pub fn give_back(slot: Slot) {
    if LARGE_SLOTS.contains(&slot.number()) { LARGE.give_back(slot) } else { SMALL.give_back(slot) }
}

/// The ID of this program's view.
#[must_use]
pub fn view() -> ObjId {
    let at = band::VIEW.base()
        + METADATA_OFFSET
        + core::mem::offset_of!(twizzler_abi::object::Metadata, id) as u64;
    // SAFETY: the view is mapped at its slot from before the program starts until it ends; fields are aligned.
    let words = [at, at + 8].map(|at| unsafe { memory::word(at) });
    ObjId { hi: words[0].load(Ordering::Relaxed), lo: words[1].load(Ordering::Relaxed) }
}

/// Reads an entry of this program's view.
#[must_use]
pub fn entry(slot: Slot) -> ViewEntry {
    read_entry(band::VIEW, slot)
}

/// Writes an entry of this program's view.
pub fn set_entry(slot: Slot, id: ObjId, rights: Rights) {
    write_entry(band::VIEW, slot, id, rights);
}

/// Empties an entry of this program's view and makes the kernel forget it.
pub fn clear_entry(slot: Slot) {
    set_entry(slot, ObjId::NONE, Rights::empty());
    // Refused only where the program has lost its view, and then nothing is mapped any more.
    let _ = call::invalidate(view(), slot, 1);
}

/// The four words of an entry of a view that is mapped at `view`.
fn words(view: Slot, slot: Slot) -> [&'static AtomicU64; 4] {
    let at = view.base() + entry_offset(slot);
    // SAFETY: callers name a slot that has a view mapped; entries are aligned and within it.
    [0, 8, 16, 24].map(|offset| unsafe { memory::word(at + offset) })
}

/// Reads an entry of a view that is mapped at `view`.
pub(crate) fn read_entry(view: Slot, slot: Slot) -> ViewEntry {
    let [hi, lo, rights, sequence] = words(view, slot);
    loop {
        // Acquire pairs with the release store that ends `write_entry`.
        let before = sequence.load(Ordering::Acquire);
        let id = ObjId { hi: hi.load(Ordering::Relaxed), lo: lo.load(Ordering::Relaxed) };
        let packed = rights.load(Ordering::Relaxed);
        // Pairs with the release fence in `write_entry`: if one of its values was seen, so is the odd sequence.
        fence(Ordering::Acquire);
        if before.is_multiple_of(2) && sequence.load(Ordering::Relaxed) == before {
            return ViewEntry {
                id,
                rights: packed as u32,
                reserved: (packed >> 32) as u32,
                sequence: before,
            };
        }
        core::hint::spin_loop();
    }
}

/// Writes an entry of a view that is mapped at `view`. One thread at a time for each entry: whoever took the slot.
pub(crate) fn write_entry(view: Slot, slot: Slot, id: ObjId, rights: Rights) {
    let [hi, lo, packed, sequence] = words(view, slot);
    let even = sequence.load(Ordering::Relaxed) & !1;
    sequence.store(even + 1, Ordering::Relaxed);
    // Pairs with the reader's acquire fence: the odd sequence is seen before any of the new words.
    fence(Ordering::Release);
    hi.store(id.hi, Ordering::Relaxed);
    lo.store(id.lo, Ordering::Relaxed);
    packed.store(u64::from(rights.bits()), Ordering::Relaxed);
    // Pairs with the reader's first load.
    sequence.store(even + 2, Ordering::Release);
}
