//! The transactions, of libpmemobj; the loops are in `c/pmem_tx.c`.

use std::ffi::{CString, c_char, c_int};
use std::marker::{PhantomData, PhantomPinned};
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Operation, PEER};

/// What C keeps.
#[repr(C)]
struct Opaque {
    nothing: [u8; 0],
    marker: PhantomData<(*mut u8, PhantomPinned)>,
}

// SAFETY: as `c/pmem_tx.c` defines them.
unsafe extern "C" {
    fn tx_open(first: *const c_char, second: *const c_char) -> *mut Opaque;
    fn tx_close(peer: *mut Opaque);
    fn tx_run(peer: *mut Opaque, operation: c_int, thread: u32, number: u64) -> u64;
}

/// What C is to do: `enum operation` of `c/pmem_tx.c`.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(super) enum Way {
    Empty = 0,
    Write8,
    Ranges8,
    Write4K,
    Replace,
    AllocThenFree,
    AtomicAllocThenFree,
    Two,
    Persist8,
}

/// The ways in which libpmemobj can do the operation.
pub(super) fn ways(operation: Operation) -> Vec<(&'static str, Way)> {
    match operation {
        Operation::Empty => vec![(PEER, Way::Empty)],
        Operation::Write8 => vec![(PEER, Way::Write8), ("pmemobj_persist, no transaction", Way::Persist8)],
        Operation::Ranges8 => vec![(PEER, Way::Ranges8)],
        Operation::Write4K => vec![(PEER, Way::Write4K)],
        Operation::Replace => vec![(PEER, Way::Replace)],
        Operation::AllocThenFree => {
            vec![(PEER, Way::AllocThenFree), ("libpmemobj, atomic", Way::AtomicAllocThenFree)]
        }
        Operation::TwoObjects => vec![("libpmemobj", Way::Two)],
    }
}

/// Two pools.
pub(super) struct Peer(NonNull<Opaque>);

// SAFETY: libpmemobj's pools may be used by several threads; each uses an area of its own.
unsafe impl Sync for Peer {}

impl Peer {
    /// Makes the pools in `folder`, which lies in memory.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let path = |name| CString::new(folder.join(name).as_os_str().as_encoded_bytes());
        let (first, second) = (path("first")?, path("second")?);
        // SAFETY: both are C strings.
        let made = unsafe { tx_open(first.as_ptr(), second.as_ptr()) };
        let Some(made) = NonNull::new(made) else {
            bail!("libpmemobj makes no pools in {}", folder.display())
        };
        Ok(Self(made))
    }

    /// Processor time of so many operations; each thread has memory of its own.
    pub(super) fn run(&self, way: Way, thread: usize, number: u64) -> Duration {
        // SAFETY: open pools; the numbers are C's.
        let ns = unsafe { tx_run(self.0.as_ptr(), way as c_int, thread as u32, number) };
        assert_ne!(ns, u64::MAX, "a transaction of libpmemobj failed");
        Duration::from_nanos(ns)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: open pools, which nobody uses any more.
        unsafe { tx_close(self.0.as_ptr()) };
    }
}
