//! The kernel: the thin layer that touches the machine.
//!
//! [`machine`] knows the CPUs, interrupts, clocks and ports; [`memory`] knows frames, the kernel's own
//! mappings and NVM. Everything above them meets the machine through [`machine::entry`].
//! What can be decided without a machine lies in `shared/`.
#![no_std]
#![no_main]

extern crate alloc;

mod archive;
mod call;
mod init;
mod level;
mod log;
mod machine;
mod memory;
mod object;
mod panic;
mod test;
mod thread;
mod view;
