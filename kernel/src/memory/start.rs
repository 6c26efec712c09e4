//! Taking over memory at boot.

use core::ops::Range;
use core::slice;

use super::frames::{self, FRAME_BYTES};
use super::{direct, paging};
use crate::machine::start_info::Parsed;

/// Below: firmware's data, real mode, the other CPUs' trampoline. Never given out.
const LOW_END: u64 = 1 << 20;
/// The boot tables map this much.
const BOOT_END: u64 = 4 << 30;

/// Sets up frames, the heap and the kernel's page tables.
///
/// # Panics
/// If there is too little RAM to start.
pub(crate) fn init(parsed: &Parsed) {
    let image = paging::image();
    let image = image.start..image.end.next_multiple_of(FRAME_BYTES);
    let archive = parsed.archive.start & !(FRAME_BYTES - 1)..parsed.archive.end.next_multiple_of(FRAME_BYTES);
    let mut used = [0..LOW_END, image, archive.clone(), 0..0];
    used.sort_by_key(|range| (range.start, range.end));

    let end = parsed.ram().iter().map(|range| range.end).max().unwrap_or(0).min(direct::END);
    let states_bytes = (end / FRAME_BYTES).next_multiple_of(FRAME_BYTES);
    let states = free_ranges(parsed.ram(), &used)
        .map(|range| range.start..range.end.min(BOOT_END))
        .find(|range| !range.is_empty() && range.end - range.start >= states_bytes)
        .expect("RAM below 4 GiB for the frames' states");
    let states = states.start..states.start + states_bytes;
    // SAFETY: RAM that nobody uses and that never goes to the allocator; the boot tables map it where the kernel's will.
    frames::init(unsafe {
        slice::from_raw_parts_mut(direct::pointer(states.start), (end / FRAME_BYTES) as usize)
    });
    used[used.iter().position(Range::is_empty).unwrap_or(0)] = states;
    used.sort_by_key(|range| (range.start, range.end));

    for range in free_ranges(parsed.ram(), &used) {
        frames::add(range.start..range.end.min(BOOT_END));
    }
    let outside =
        |range: &Range<u64>| !parsed.ram().iter().any(|ram| ram.start < range.end && range.start < ram.end);
    let whole_frames =
        |range: &Range<u64>| range.start.next_multiple_of(FRAME_BYTES)..range.end & !(FRAME_BYTES - 1);
    // The first MiB whole: firmware keeps its data between what it calls RAM.
    let above = parsed.ram().iter().map(|ram| ram.start.max(LOW_END)..ram.end.min(direct::END));
    let archive = Some(archive).filter(|archive| !archive.is_empty() && outside(archive));
    paging::init(core::iter::once(0..LOW_END).chain(above.map(|ram| whole_frames(&ram))).chain(archive));
    for range in free_ranges(parsed.ram(), &used) {
        frames::add(range.start.max(BOOT_END)..range.end);
    }
    log::info!("memory: {} MiB free", (frames::free_count() * FRAME_BYTES) >> 20);
}

/// RAM without what is used. `used` is sorted by start and end, so that empty ranges hide nothing.
fn free_ranges<'a>(ram: &'a [Range<u64>], used: &'a [Range<u64>]) -> impl Iterator<Item = Range<u64>> + 'a {
    ram.iter().flat_map(move |ram| {
        let starts = core::iter::once(0).chain(used.iter().map(|used| used.end));
        let ends = used.iter().map(|used| used.start).chain(core::iter::once(u64::MAX));
        starts
            .zip(ends)
            .map(|(start, end)| ram.start.max(start)..ram.end.min(end))
            .filter(|range| !range.is_empty())
    })
}
