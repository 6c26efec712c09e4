//! What the kernel publishes: an object that everyone may read and nobody but the kernel writes.
//!
//! Fields are single words that the kernel updates; a reader sees each field whole, not all fields of one moment.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::id::ObjId;

/// The system object's ID.
pub const SYSTEM_ID: ObjId = ObjId::new(0x5459_5354_454d);
/// The boot archive's ID: a ustar archive of programs, and of what the host asked for.
pub const ARCHIVE_ID: ObjId = ObjId::new(0x0041_5243_4849_5645);

/// Threads that the table holds; more run, but are not listed.
pub const THREADS_MAX: usize = 1024;
/// Bytes of the kernel's command line that are published.
pub const CMDLINE_BYTES: usize = 512;

/// The system object's content, at its base.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct System {
    /// Layout version, 1.
    pub version: u64,
    /// Nanoseconds from power-on (or the boot CPU's start) to the first program, for `bench`.
    pub boot_ns: u64,
    /// Time: `ns = (tsc - tsc_base) * tsc_multiplier >> 32` since boot.
    pub tsc_base: u64,
    /// See `tsc_base`.
    pub tsc_multiplier: u64,
    /// Seconds since 1970 at `tsc_base`; 0: unknown.
    pub epoch_s: u64,
    /// CPUs that run.
    pub cpus: u64,
    /// DRAM that the kernel manages, in bytes.
    pub dram_bytes: u64,
    /// Of it, free.
    pub dram_free_bytes: u64,
    /// NVM of the mounted store, in bytes; 0: none.
    pub nvm_bytes: u64,
    /// Of it, free.
    pub nvm_free_bytes: u64,
    /// Persistent objects.
    pub objects_persistent: u64,
    /// Volatile objects.
    pub objects_volatile: u64,
    /// Persistent objects in quarantine.
    pub objects_quarantined: u64,
    /// How long the mount took.
    pub mount_ns: u64,
    /// Power-ons since the store was made; differs at every boot. 0 without a store.
    pub store_boots: u64,
    /// Page faults that were resolved.
    pub faults_resolved: u64,
    /// Of them, faults that filled an empty page.
    pub faults_filled: u64,
    /// Calls served.
    pub calls: u64,
    /// Switches between threads.
    pub switches: u64,
    /// TLB shootdowns sent.
    pub shootdowns: u64,
    /// Counts presses of Ctrl-C at the console; programs can wait on it.
    pub console_interrupts: u64,
    /// Error that kept the store from being mounted, as a number; 0: none.
    pub nvm_error: u64,
    /// Cache-line flushes by the kernel since boot.
    pub flushes: u64,
    /// Store fences by the kernel since boot.
    pub fences: u64,
    /// NVM bytes written by the kernel since boot.
    pub nvm_written_bytes: u64,
    /// The store's UUID.
    pub store_uuid: [u8; 16],
    /// The root object of the persistent names, or none while no one has made it.
    pub names_root: ObjId,
    /// The kernel's command line, padded with zeros.
    pub cmdline: [u8; CMDLINE_BYTES],
    /// Entries of `threads` in use or free, up to the highest in use.
    pub threads_len: u64,
    /// Live threads' IDs; [`ObjId::NONE`]: a free entry.
    pub threads: [ObjId; THREADS_MAX],
}

const _: () = assert!(size_of::<System>().is_multiple_of(8));
