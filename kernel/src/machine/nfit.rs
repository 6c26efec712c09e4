//! Finding NVM: the ranges that the NFIT calls persistent memory.
//!
//! The `acpi` crate doesn't know the table, so the way from the RSDP is walked here once more: RSDT and XSDT, as QEMU's
//! q35 has an RSDT alone. Source: ACPI 6.5, sections 5.2.5 (RSDP), 5.2.7, 5.2.8 and 5.2.26 (NFIT).

use alloc::vec::Vec;
use core::ops::Range;
use core::slice;

use crate::memory::direct;

const HEADER_BYTES: usize = 36;
/// Longest table that is believed.
const TABLE_BYTES_MAX: u32 = 1 << 20;
const SPA_RANGE: u16 = 0;
/// Range type "byte-addressable persistent memory": 66f0d379-b4f3-4074-ac43-0d3318b78cdb.
const PERSISTENT: [u8; 16] =
    [0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4, 0x74, 0x40, 0xac, 0x43, 0x0d, 0x33, 0x18, 0xb7, 0x8c, 0xdb];

/// Physical ranges of persistent memory, page-aligned.
pub(super) fn read(rsdp: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    let Some(nfit) = find(rsdp, b"NFIT") else { return ranges };
    let mut rest = nfit.get(HEADER_BYTES + 4..).unwrap_or(&[]);
    while let (Some(kind), Some(len)) = (word16(rest, 0), word16(rest, 2)) {
        let Some((structure, after)) = rest.split_at_checked(usize::from(len)) else { break };
        if len < 4 {
            log::warn!("nfit: a structure of length {len}");
            break;
        }
        if kind == SPA_RANGE && structure.get(16..32) == Some(&PERSISTENT) {
            let base = word64(structure, 32).unwrap_or(0);
            let len_bytes = word64(structure, 40).unwrap_or(0);
            match base.checked_add(len_bytes) {
                Some(end) if base != 0 && base.is_multiple_of(4096) && len_bytes >= 4096 && end < 1 << 46 => {
                    ranges.push(base..base + len_bytes / 4096 * 4096);
                }
                _ => log::warn!("nfit: range {base:#x} + {len_bytes:#x} makes no sense"),
            }
        }
        rest = after;
    }
    ranges
}

/// The table with a signature, if its checksum is right.
fn find(rsdp: u64, signature: &[u8; 4]) -> Option<&'static [u8]> {
    let root = bytes(rsdp, 36);
    let xsdt = if root[15] >= 2 { word64(root, 24)? } else { 0 };
    let tables = [(xsdt, 8), (u64::from(word32(root, 16)?), 4)];
    for (address, entry_bytes) in tables.into_iter().filter(|&(address, _)| address != 0) {
        let Some(table) = table(address) else { continue };
        let found = table[HEADER_BYTES..]
            .chunks_exact(entry_bytes)
            .filter_map(
                |entry| if entry_bytes == 8 { word64(entry, 0) } else { word32(entry, 0).map(u64::from) },
            )
            .filter(|&address| address != 0 && bytes(address, 4) == signature)
            .find_map(|address| self::table(address));
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A table by its header's length, if its checksum is right.
fn table(address: u64) -> Option<&'static [u8]> {
    let len = word32(bytes(address, HEADER_BYTES as u64), 4)?;
    if !(HEADER_BYTES as u32..=TABLE_BYTES_MAX).contains(&len) {
        log::warn!("acpi: a table of {len} bytes at {address:#x}");
        return None;
    }
    let table = bytes(address, u64::from(len));
    if table.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) != 0 {
        log::warn!("acpi: wrong checksum of the table at {address:#x}");
        return None;
    }
    Some(table)
}

fn bytes(address: u64, len_bytes: u64) -> &'static [u8] {
    // SAFETY: mapped for good, and read-only; firmware tables don't change.
    unsafe { slice::from_raw_parts(direct::map_firmware(address, len_bytes), len_bytes as usize) }
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
