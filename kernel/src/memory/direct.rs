//! The direct map: physical memory at a fixed distance.

use super::paging::{self, Attributes};

/// Virtual address of physical address 0.
pub(crate) const BASE: u64 = 0xffff_8000_0000_0000;
/// First physical address that can't be mapped.
pub(crate) const END: u64 = 1 << 46;

/// Where a physical address lies in the direct map. What may be done there depends on what it is; it may not be mapped.
///
/// # Panics
/// For an address beyond [`END`].
#[must_use]
pub(crate) fn pointer(physical: u64) -> *mut u8 {
    assert!(physical < END, "physical address {physical:#x} is out of range");
    (BASE + physical) as *mut u8
}

/// Maps a device's registers, for good. To be called before the first user root is made.
pub(crate) fn map_device(physical: u64, len_bytes: u64) -> *mut u8 {
    map_pages(physical, len_bytes, Attributes::DEVICE)
}

/// Maps firmware tables for reading, for good, unless they are already mapped. A range that can't be is replaced by
/// the memory at 0, where no table is.
pub(crate) fn map_firmware(physical: u64, len_bytes: u64) -> *const u8 {
    let possible = physical.checked_add(len_bytes).is_some_and(|end| end <= END);
    if !possible {
        log::warn!("acpi: a table at {physical:#x} can't be");
    }
    map_pages(if possible { physical } else { 0 }, len_bytes.min(1 << 30), Attributes::READ)
}

fn map_pages(physical: u64, len_bytes: u64, attributes: Attributes) -> *mut u8 {
    let end = physical + len_bytes;
    let mut page = physical & !4095;
    while page < end {
        if paging::translate(BASE + page).is_none() {
            paging::map(BASE + page, page, 4096, attributes);
        }
        page += 4096;
    }
    pointer(physical)
}
