//! Persistent memory, imitated by anonymous memory: every flush and fence is the processor's own instruction.
//!
//! What it measures is what a program does on a DAX mapping, but for the media's own latency. libpmemobj is measured on tmpfs with
//! `PMEM_IS_PMEM_FORCE=1`, which is the same. With [`Caches::Durable`] the write-back instructions are left out, as on a
//! machine whose caches survive a power cut; libpmemobj's name for that is `PMEM_NO_FLUSH=1`.

use std::sync::atomic::AtomicU64;

use twizzler::stream;
use twizzler_abi::address::Slot;
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_image::MemoryBackend;
use twizzler_object::{Backend, Span, Waited};
use twizzler_pmem::cache::{WriteBack, fence};

/// What a power cut leaves of the caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caches {
    /// Nothing: lines must be written back.
    Lost,
    /// Everything: a store is durable once it is seen.
    Durable,
    /// As for [`Caches::Durable`], but fences are left out too: nothing durable, what is left is our own work.
    Ignored,
}

/// The backend.
pub(crate) struct Memory {
    inner: MemoryBackend,
    caches: Caches,
    write_back: WriteBack,
}

impl Memory {
    pub(crate) fn new(caches: Caches) -> Self {
        Self { inner: MemoryBackend::new(), caches, write_back: WriteBack::detect() }
    }
}

// SAFETY: all memory is the inner backend's.
unsafe impl Backend for Memory {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        self.inner.create(spec)
    }
    fn delete(&self, id: ObjId) -> Result<(), Error> {
        self.inner.delete(id)
    }
    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        self.inner.stat(id)
    }
    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        self.inner.map(id, rights)
    }
    unsafe fn unmap(&self, slot: Slot) {
        // SAFETY: the caller's promise is that of the same method.
        unsafe { self.inner.unmap(slot) };
    }
    fn ensure(&self, _id: ObjId, _offset: u64, _len_bytes: u64) -> Result<(), Error> {
        // Anonymous pages come when they are touched.
        Ok(())
    }
    fn translation(&self) -> u64 {
        self.inner.translation()
    }
    #[inline]
    fn thread(&self) -> u64 {
        self.inner.thread()
    }
    fn coordination(&self) -> u64 {
        self.inner.coordination()
    }

    #[inline]
    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        if self.caches == Caches::Lost {
            self.write_back.flush(address, len_bytes);
        }
    }

    #[inline]
    unsafe fn stream(&self, to: Span<'_, u64>, words: &[u64]) {
        assert_eq!(to.len(), words.len() as u64, "the caller made the lengths equal");
        let write_back = (self.caches == Caches::Lost).then_some(self.write_back);
        // SAFETY: a span's words lie in a mapped object, aligned, and are reached by atomics alone.
        unsafe { stream(write_back, to.address(), words) };
    }

    #[inline]
    fn fence(&self) {
        if self.caches != Caches::Ignored {
            fence();
        }
    }

    fn owner(&self) -> u64 {
        self.inner.owner()
    }
    fn is_alive(&self, owner: u64) -> bool {
        self.inner.is_alive(owner)
    }
    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        self.inner.wait(word, value, timeout_ns)
    }
    fn wake(&self, word: &AtomicU64) {
        self.inner.wake(word);
    }
    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        self.inner.random(bytes)
    }
}
