//! The kernel's own page tables: built once at boot, shared by all roots through the upper half of their PML4.
//!
//! No page is both writable and executable, in the direct map either: there the kernel's image is read-only.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::direct;
use super::frames::{self, Claim, Frame};
use crate::machine::lock::{Lock, level};
use crate::machine::{features, tlb};

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const CACHE_OFF: u64 = 1 << 4 | 1 << 3;
/// Accessed and dirty, preset: hardware never writes to a table.
const USED: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What a kernel mapping allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attributes(u64);

impl Attributes {
    pub(crate) const READ: Self = Self(PRESENT | USED | GLOBAL | NO_EXECUTE);
    pub(crate) const WRITE: Self = Self(Self::READ.0 | WRITE);
    pub(crate) const EXECUTE: Self = Self(PRESENT | USED | GLOBAL);
    pub(crate) const DEVICE: Self = Self(Self::WRITE.0 | CACHE_OFF);
    /// An open write window: gone soon, so not global.
    pub(crate) const WINDOW: Self = Self(Self::WRITE.0 & !GLOBAL);

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }
}

/// The kernel's PML4: its address, and the lock for changes below it.
static ROOT: AtomicU64 = AtomicU64::new(0);
static CHANGES: Lock<(), { level::PAGING }> = Lock::new(());

/// The kernel's own root, with an empty lower half.
pub(crate) fn kernel_root() -> Frame {
    Frame::of(ROOT.load(Ordering::Relaxed))
}

/// Entry of a table.
fn entry(table: u64, index: u64) -> *mut u64 {
    debug_assert!(index < 512);
    // SAFETY: within the table's page.
    unsafe { direct::pointer(table).cast::<u64>().add(index as usize) }
}

fn read(entry: *mut u64) -> u64 {
    // SAFETY: an entry of a kernel table, which stays for good.
    unsafe { entry.read_volatile() }
}

fn write(entry: *mut u64, value: u64) {
    // SAFETY: an entry of a kernel table, changed under `CHANGES` (or a window's, by its own CPU).
    unsafe { entry.write_volatile(value) };
}

fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (level - 1)) & 511
}

/// The table that an entry leads to, made if there is none.
fn below(entry: *mut u64) -> u64 {
    let value = read(entry);
    if value & PRESENT != 0 {
        assert_eq!(value & LARGE, 0, "a large page lies where a table is needed");
        return value & ADDRESS;
    }
    let frame = frames::allocate_zeroed(Claim::Kernel).expect("DRAM for the kernel's tables at boot");
    write(entry, frame.address() | PRESENT | WRITE | USED);
    frame.address()
}

/// Maps a range, by pages as large as fit. Nothing may be mapped there yet.
///
/// # Panics
/// If something is, or DRAM runs out, which it doesn't at boot.
pub(crate) fn map(address: u64, physical: u64, len_bytes: u64, attributes: Attributes) {
    let _changes = CHANGES.lock();
    let mut done = 0;
    while done < len_bytes {
        let (from, to) = (address + done, physical + done);
        let fits = |bytes: u64| (from | to) % bytes == 0 && done + bytes <= len_bytes;
        let level = match () {
            () if fits(1 << 30) && features::get().gib_pages => 3,
            () if fits(1 << 21) => 2,
            () => 1,
        };
        let mut table = ROOT.load(Ordering::Relaxed);
        for upper in (level + 1..=4).rev() {
            table = below(entry(table, index(from, upper)));
        }
        let leaf = entry(table, index(from, level));
        assert_eq!(read(leaf) & PRESENT, 0, "{from:#x} is mapped already");
        write(leaf, to | attributes.0 | if level > 1 { LARGE } else { 0 });
        done += 1 << (12 + 9 * (level - 1));
    }
}

/// The page table entry for a page of which nothing is mapped, after making the tables above.
pub(crate) fn leaf_entry(address: u64) -> *mut u64 {
    let _changes = CHANGES.lock();
    let mut table = ROOT.load(Ordering::Relaxed);
    for upper in (2..=4).rev() {
        table = below(entry(table, index(address, upper)));
    }
    entry(table, index(address, 1))
}

/// A mapping as the MMU sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Translation {
    pub(crate) physical: u64,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    /// Bytes from the address to the end of its page.
    pub(crate) rest_bytes: u64,
}

/// Walks the kernel's tables. Takes no lock: kernel tables only grow.
pub(crate) fn translate(address: u64) -> Option<Translation> {
    let mut table = ROOT.load(Ordering::Relaxed);
    let (mut writable, mut executable) = (true, true);
    for level in (1..=4).rev() {
        let value = read(entry(table, index(address, level)));
        if value & PRESENT == 0 {
            return None;
        }
        writable &= value & WRITE != 0;
        executable &= value & NO_EXECUTE == 0;
        if level == 1 || value & LARGE != 0 {
            let bytes = 1 << (12 + 9 * (level - 1));
            let within = address % bytes;
            let physical = (value & ADDRESS & !(bytes - 1)) + within;
            return Some(Translation { physical, writable, executable, rest_bytes: bytes - within });
        }
        table = value & ADDRESS;
    }
    None
}

/// The first mapping at or above an address: where it starts, and what it is.
pub(crate) fn next_mapping(mut address: u64) -> Option<(u64, Translation)> {
    loop {
        if let Some(page) = translate(address) {
            return Some((address, page));
        }
        // Skip what the highest empty entry covers.
        let mut table = ROOT.load(Ordering::Relaxed);
        let mut level = 4;
        while level > 1 {
            let value = read(entry(table, index(address, level)));
            if value & PRESENT == 0 {
                break;
            }
            table = value & ADDRESS;
            level -= 1;
        }
        let bytes = 1 << (12 + 9 * (level - 1));
        address = (address & !(bytes - 1)).checked_add(bytes)?;
    }
}

/// Fills the upper half of a new root.
pub(crate) fn copy_kernel_half(pml4: Frame) {
    for index in 256..512 {
        write(entry(pml4.address(), index), read(entry(ROOT.load(Ordering::Relaxed), index)));
    }
}

// SAFETY: labels of the linker script; only their addresses are taken.
unsafe extern "C" {
    static boot_start: u8;
    static text_start: u8;
    static text_end: u8;
    static rodata_start: u8;
    static rodata_end: u8;
    static data_start: u8;
    static data_end: u8;
}

/// Distance of the kernel's image from where it is loaded.
pub(crate) const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Physical range of the kernel's image.
pub(crate) fn image() -> Range<u64> {
    (&raw const boot_start) as u64..(&raw const data_end) as u64 - KERNEL_BASE
}

/// Virtual range of the kernel's code.
pub(crate) fn text() -> Range<u64> {
    (&raw const text_start) as u64..(&raw const text_end) as u64
}

/// Builds the tables and loads them. `ram`: what the direct map is to hold, ascending.
pub(super) fn init(ram: impl Iterator<Item = Range<u64>>) {
    let root = frames::allocate_zeroed(Claim::Kernel).expect("DRAM for the kernel's PML4");
    ROOT.store(root.address(), Ordering::Relaxed);
    let sections = [
        (text(), Attributes::EXECUTE),
        ((&raw const rodata_start) as u64..(&raw const rodata_end) as u64, Attributes::READ),
        ((&raw const data_start) as u64..(&raw const data_end) as u64, Attributes::WRITE),
    ];
    for (range, attributes) in &sections {
        map(range.start, range.start - KERNEL_BASE, range.end - range.start, *attributes);
    }
    // In the direct map, what is not data of the kernel's image is read-only.
    let frozen = image().start..(&raw const data_start) as u64 - KERNEL_BASE;
    for range in ram {
        let parts = [
            (range.start..range.end.min(frozen.start), Attributes::WRITE),
            (range.start.max(frozen.start)..range.end.min(frozen.end), Attributes::READ),
            (range.start.max(frozen.end)..range.end, Attributes::WRITE),
        ];
        for (part, attributes) in parts.into_iter().filter(|(part, _)| !part.is_empty()) {
            map(direct::BASE + part.start, part.start, part.end - part.start, attributes);
        }
    }
    tlb::load_first(root);
}
