//! What the firmware's tables tell: CPUs, interrupt lines, the PM timer, NVM, how to switch off.
//!
//! Tables come from outside the kernel: what fails its checks is reported and left out.

use core::ops::Range;
use core::ptr::NonNull;

use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use alloc::vec::Vec;

use super::apic::Line;
use super::{nfit, power};
use crate::memory::direct;

/// What was found.
#[derive(Default)]
pub(super) struct Platform {
    /// APIC IDs of usable CPUs, in the tables' order.
    pub(super) apic_ids: Vec<u32>,
    /// Port of the PM timer.
    pub(super) pm_timer: Option<u16>,
    /// The interrupt line of COM1.
    pub(super) console: Option<Line>,
    /// Physical ranges of NVM.
    pub(super) nvm: Vec<Range<u64>>,
}

/// Maps tables on demand, for good.
#[derive(Clone)]
struct Map;

impl AcpiHandler for Map {
    unsafe fn map_physical_region<T>(&self, address: usize, bytes: usize) -> PhysicalMapping<Self, T> {
        let pointer = direct::map_firmware(address as u64, bytes as u64);
        let pointer = NonNull::new(pointer.cast_mut().cast()).expect("the direct map is not at 0");
        // SAFETY: the range is mapped for good (invariant **direct**).
        unsafe { PhysicalMapping::new(address, pointer, bytes, bytes, Self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// Reads the tables.
pub(super) fn read(rsdp: u64) -> Platform {
    let mut platform = Platform::default();
    if rsdp == 0 {
        log::warn!("acpi: the loader names no RSDP: one CPU, no NVM");
        return platform;
    }
    // SAFETY: `Map` maps whatever is asked for; the loader says that an RSDP is there, and its checksum is verified.
    match unsafe { AcpiTables::from_rsdp(Map, rsdp as usize) } {
        Ok(tables) => {
            read_madt(&tables, &mut platform);
            read_fadt(&tables, &mut platform);
        }
        Err(error) => log::warn!("acpi: tables not usable: {error:?}"),
    }
    platform.nvm = nfit::read(rsdp);
    platform
}

fn read_madt(tables: &AcpiTables<Map>, platform: &mut Platform) {
    let madt = match tables.find_table::<Madt>() {
        Ok(madt) => madt,
        Err(error) => return log::warn!("acpi: no MADT: {error:?}"),
    };
    let mut io_apics = Vec::new();
    let (mut line, mut active_low, mut level) = (4, false, false);
    for entry in madt.get().entries() {
        match entry {
            // Flags: bit 0: enabled.
            MadtEntry::LocalApic(cpu) if { cpu.flags } & 1 != 0 => {
                platform.apic_ids.push(u32::from(cpu.apic_id))
            }
            MadtEntry::LocalX2Apic(cpu) if { cpu.flags } & 1 != 0 => platform.apic_ids.push(cpu.x2apic_id),
            MadtEntry::IoApic(io) => {
                io_apics.push(({ io.io_apic_address }, { io.global_system_interrupt_base }))
            }
            MadtEntry::InterruptSourceOverride(change) if change.irq == 4 => {
                line = change.global_system_interrupt;
                // Polarity in bits 0-1, trigger mode in bits 2-3: 3 is low, and level.
                active_low = change.flags & 3 == 3;
                level = change.flags >> 2 & 3 == 3;
            }
            _ => {}
        }
    }
    platform.console =
        io_apics.into_iter().filter(|&(_, first)| first <= line).max_by_key(|&(_, first)| first).map(
            |(address, first)| Line { io_apic: u64::from(address), input: line - first, active_low, level },
        );
}

fn read_fadt(tables: &AcpiTables<Map>, platform: &mut Platform) {
    let fadt = match tables.find_table::<Fadt>() {
        Ok(fadt) => fadt,
        Err(error) => return log::warn!("acpi: no FADT: {error:?}"),
    };
    if let Ok(Some(block)) = fadt.get().pm_timer_block() {
        platform.pm_timer = u16::try_from(block.address).ok().filter(|&port| port != 0);
    }
    // The sleep type lies in AML, which isn't interpreted. QEMU's is 0.
    if let Ok(block) = fadt.get().pm1a_control_block()
        && let Ok(port) = u16::try_from(block.address)
    {
        power::set_soft_off(port, 0);
    }
}
