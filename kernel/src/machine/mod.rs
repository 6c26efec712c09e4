//! CPUs, interrupts, time, ports: what touches the machine.
//!
//! The kernel runs with interrupts off except while a CPU idles, on one stack for each CPU. So code
//! between two entries has the CPU to itself, and [`cpu::current`] stays the same CPU. The other
//! invariants that the unsafe code leans on:
//!
//! - **gs**: in the kernel, GS points to the CPU's own [`cpu::Cpu`] from [`cpu::install`] on.
//! - **direct**: RAM, firmware tables and devices that were asked for are mapped at [`crate::memory::direct::BASE`] + physical address, for good.
//! - **detached**: a [`entry::UserContext`] belongs to the CPU that it is current on, until detached.

pub mod acpi;
pub mod apic;
mod boot;
pub mod clock;
pub mod cpu;
pub mod entry;
pub(crate) mod entry_asm;
pub mod features;
mod idt;
pub mod init;
pub mod lock;
mod nfit;
pub mod power;
pub mod random;
mod segments;
pub mod serial;
pub mod smp;
pub mod start_info;
pub mod timer;
pub mod tlb;
pub mod user;
pub mod vector;

pub(crate) use segments::StackTops;
