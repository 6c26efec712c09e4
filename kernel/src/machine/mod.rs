//! CPUs, interrupts, time, ports: what touches the machine.
//!
//! The kernel runs with interrupts off except while a CPU idles, on one stack for each CPU. So code
//! between two entries has the CPU to itself, and [`cpu::current`] stays the same CPU. The other
//! invariants that the unsafe code leans on:
//!
//! - **gs**: in the kernel, GS points to the CPU's own [`cpu::Cpu`] from [`cpu::install`] on.
//! - **direct**: RAM, firmware tables and devices that were asked for are mapped at [`crate::memory::direct::BASE`] + physical address, for good.
//! - **detached**: a [`entry::UserContext`] belongs to the CPU that it is current on, until detached.

pub(crate) mod acpi;
pub(crate) mod apic;
mod boot;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod entry;
pub(crate) mod entry_asm;
pub(crate) mod features;
mod idt;
pub(crate) mod init;
pub(crate) mod lock;
mod nfit;
pub(crate) mod power;
pub(crate) mod random;
mod segments;
pub(crate) mod serial;
pub(crate) mod smp;
pub(crate) mod start_info;
pub(crate) mod timer;
pub(crate) mod tlb;
pub(crate) mod user;
pub(crate) mod vector;

pub(crate) use segments::StackTops;
