//! DRAM frames: a buddy allocator. Free blocks are linked through themselves, by the direct map.
//!
//! One byte for each frame says what begins there, so that merging is a look-up and a wrong free is noticed.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::direct;
use crate::machine::lock::{Lock, level};

/// Bytes of a frame.
pub(crate) const FRAME_BYTES: u64 = 4096;
/// Order of the largest block: 1 GiB.
pub(crate) const ORDER_MAX: u8 = 18;
/// Order of 2 MiB.
pub(crate) const ORDER_2M: u8 = 9;

/// A DRAM frame, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub(crate) struct Frame(u64);

impl Frame {
    /// The frame that holds a physical address.
    #[must_use]
    pub(crate) const fn of(address: u64) -> Self {
        Self(address / FRAME_BYTES)
    }

    /// Its number.
    #[must_use]
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// Its physical address.
    #[must_use]
    pub(crate) const fn address(self) -> u64 {
        self.0 * FRAME_BYTES
    }

    /// Where the direct map has it.
    #[must_use]
    pub(crate) fn pointer(self) -> *mut u8 {
        direct::pointer(self.address())
    }
}

/// Who asks, which decides how far memory may be used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    /// For what programs asked for: leaves the reserve.
    User,
    /// For what the kernel needs to go on, to delete and to recover: takes the last frame.
    Kernel,
}

/// State of a frame: nothing begins here; or a block of the order in the low bits, free or given out.
const NOTHING: u8 = 0xff;
const FREE: u8 = 0x40;
const GIVEN: u8 = 0x80;

/// Link that names no frame.
const NONE: u64 = u64::MAX;

struct Allocator {
    /// For each frame up to the highest.
    states: &'static mut [u8],
    /// First free block of each order.
    heads: [u64; ORDER_MAX as usize + 1],
    free: u64,
    total: u64,
    reserve: u64,
}

static ALLOCATOR: Lock<Allocator, { level::FRAMES }> = Lock::new(Allocator {
    states: &mut [],
    heads: [NONE; ORDER_MAX as usize + 1],
    free: 0,
    total: 0,
    reserve: 0,
});

/// What [`end_address`] says: read often, set once.
static END: AtomicU64 = AtomicU64::new(0);

/// Takes a frame. Its content is whatever was there.
#[must_use]
pub(crate) fn allocate(claim: Claim) -> Option<Frame> {
    allocate_block(0, claim)
}

/// Takes a frame and zeroes it.
#[must_use]
pub(crate) fn allocate_zeroed(claim: Claim) -> Option<Frame> {
    let frame = allocate(claim)?;
    // SAFETY: the frame is ours alone, DRAM, and in the direct map.
    unsafe { twizzler_pmem::mapped::zero(frame.pointer(), FRAME_BYTES as usize) };
    Some(frame)
}

/// Takes 2^`order` frames, contiguous and aligned to their size.
#[must_use]
pub(crate) fn allocate_block(order: u8, claim: Claim) -> Option<Frame> {
    let mut allocator = ALLOCATOR.lock();
    let left = if claim == Claim::User { allocator.reserve } else { 0 };
    if order > ORDER_MAX || allocator.free < left + (1 << order) {
        return None;
    }
    allocator.take(order)
}

/// Gives a frame back.
///
/// # Panics
/// If it wasn't given out as a single frame.
pub(crate) fn free(frame: Frame) {
    free_block(frame, 0);
}

/// Gives a block back, whole.
///
/// # Panics
/// If it wasn't given out with this order.
pub(crate) fn free_block(frame: Frame, order: u8) {
    ALLOCATOR.lock().put(frame.0, order);
}

/// Makes single frames of a block that was given out, so that each can be given back by itself.
///
/// # Panics
/// If it wasn't given out with this order.
pub(crate) fn split_block(frame: Frame, order: u8) {
    let mut allocator = ALLOCATOR.lock();
    assert_eq!(allocator.state(frame.0), GIVEN | order, "frame {frame:?} isn't such a block");
    for number in frame.0..frame.0 + (1 << order) {
        allocator.states[number as usize] = GIVEN;
    }
}

/// Free frames.
#[must_use]
pub(crate) fn free_count() -> u64 {
    ALLOCATOR.lock().free
}

/// Frames that the allocator manages.
#[must_use]
pub(crate) fn total_count() -> u64 {
    ALLOCATOR.lock().total
}

/// First physical address above all DRAM frames.
#[must_use]
pub(crate) fn end_address() -> u64 {
    END.load(Ordering::Relaxed)
}

/// Starts with no frames, and a byte of state for each that may be added.
pub(super) fn init(states: &'static mut [u8]) {
    states.fill(NOTHING);
    END.store(states.len() as u64 * FRAME_BYTES, Ordering::Relaxed);
    ALLOCATOR.lock().states = states;
}

/// Adds RAM, which must be mapped in the direct map, whole frames, and not in use.
pub(super) fn add(range: Range<u64>) {
    let mut allocator = ALLOCATOR.lock();
    let (mut number, end) = (range.start.div_ceil(FRAME_BYTES), range.end / FRAME_BYTES);
    while number < end {
        let order = (0..=ORDER_MAX)
            .rev()
            .find(|&order| number % (1 << order) == 0 && number + (1 << order) <= end)
            .expect("order 0 fits");
        allocator.states[number as usize] = GIVEN | order;
        allocator.put(number, order);
        number += 1 << order;
        allocator.total += 1 << order;
    }
    allocator.reserve = (allocator.total / 128).max(128).min(allocator.total / 4);
}

impl Allocator {
    fn state(&self, number: u64) -> u8 {
        usize::try_from(number).ok().and_then(|number| self.states.get(number)).copied().unwrap_or(NOTHING)
    }

    fn take(&mut self, order: u8) -> Option<Frame> {
        let from = (order..=ORDER_MAX).find(|&order| self.heads[usize::from(order)] != NONE)?;
        let number = self.heads[usize::from(from)];
        self.unlink(number, from);
        for half in (order..from).rev() {
            self.link(number + (1 << half), half);
        }
        self.states[number as usize] = GIVEN | order;
        self.free -= 1 << order;
        Some(Frame(number))
    }

    fn put(&mut self, mut number: u64, mut order: u8) {
        assert_eq!(self.state(number), GIVEN | order, "frame {number:#x} wasn't given out so");
        self.states[number as usize] = NOTHING;
        self.free += 1 << order;
        while order < ORDER_MAX && self.state(number ^ 1 << order) == FREE | order {
            self.unlink(number ^ 1 << order, order);
            number &= !(1 << order);
            order += 1;
        }
        self.link(number, order);
    }

    fn link(&mut self, number: u64, order: u8) {
        let next = self.heads[usize::from(order)];
        write_links(number, [next, NONE]);
        if next != NONE {
            write_links(next, [read_links(next)[0], number]);
        }
        self.heads[usize::from(order)] = number;
        self.states[number as usize] = FREE | order;
    }

    fn unlink(&mut self, number: u64, order: u8) {
        let [next, previous] = read_links(number);
        if previous == NONE {
            self.heads[usize::from(order)] = next;
        } else {
            write_links(previous, [next, read_links(previous)[1]]);
        }
        if next != NONE {
            write_links(next, [read_links(next)[0], previous]);
        }
        self.states[number as usize] = NOTHING;
    }
}

fn links(number: u64) -> *mut [u64; 2] {
    Frame(number).pointer().cast()
}

/// Next and previous free block of the same order.
fn read_links(number: u64) -> [u64; 2] {
    // SAFETY: the frame is free, so it is the allocator's, which is locked; it is mapped and aligned.
    unsafe { links(number).read() }
}

fn write_links(number: u64, value: [u64; 2]) {
    // SAFETY: as in `read_links`.
    unsafe { links(number).write(value) };
}
