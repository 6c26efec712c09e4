//! A backend over another one, each of whose steps can be watched, delayed, or be the last.

use std::sync::atomic::AtomicU64;

use twizzler_abi::address::Slot;
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_object::backend::{Backend, Commit, Sink, Ticket, Waited};

/// What a program does that others, or a power cut, can tell from what it did before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Makes an object.
    Create,
    /// Deletes one.
    Delete,
    /// Has stored to an object.
    Stored,
    /// Starts writing lines back.
    Flush,
    /// Waits until they are.
    Fence,
    /// Looks at or changes a word that programs share.
    Shared,
}

/// What happens around the steps. Each method says what the backend below does, unless it is written anew.
pub trait Hooks<B: Backend> {
    /// Before each step; for stores, after them.
    fn step(&self, step: Step);

    /// [`Backend::owner`].
    fn owner(&self, below: &B) -> u64 {
        below.owner()
    }

    /// [`Backend::is_alive`].
    fn is_alive(&self, below: &B, owner: u64) -> bool {
        below.is_alive(owner)
    }

    /// [`Backend::thread`].
    fn thread(&self, below: &B) -> u64 {
        below.thread()
    }

    /// [`Backend::sink`].
    fn sink(&self, below: &B) -> Sink {
        below.sink()
    }

    /// [`Backend::log`].
    ///
    /// # Errors
    /// As there.
    fn log(&self, below: &B, commit: &Commit<'_>) -> Result<Ticket, Error> {
        below.log(commit)
    }

    /// [`Backend::durable`].
    ///
    /// # Errors
    /// As there.
    fn durable(&self, below: &B, end: u64) -> Result<u64, Error> {
        below.durable(end)
    }

    /// [`Backend::publish_created`].
    ///
    /// # Errors
    /// As there.
    fn publish_created(&self, below: &B, created: &[ObjId]) -> Result<(), Error> {
        below.publish_created(created)
    }

    /// [`Backend::applied`].
    fn applied(&self, below: &B, ticket: Ticket) {
        below.applied(ticket);
    }

    /// [`Backend::reads_slowly`].
    fn reads_slowly(&self, below: &B) -> bool {
        below.reads_slowly()
    }

    /// [`Backend::expect`].
    fn expect(&self, below: &B, address: u64, len_bytes: u64) {
        below.expect(address, len_bytes);
    }

    /// [`Backend::wait`].
    fn wait(&self, below: &B, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        below.wait(word, value, timeout_ns)
    }

    /// [`Backend::wake`].
    fn wake(&self, below: &B, word: &AtomicU64) {
        below.wake(word);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Hooked<B, H> {
    below: B,
    hooks: H,
}

impl<B: Backend, H: Hooks<B>> Hooked<B, H> {
    /// Puts hooks around a backend.
    pub const fn new(below: B, hooks: H) -> Self {
        Self { below, hooks }
    }

    /// The hooks.
    pub const fn hooks(&self) -> &H {
        &self.hooks
    }
}

// SAFETY: everything that the promise is about is the backend's below.
unsafe impl<B: Backend, H: Hooks<B>> Backend for Hooked<B, H> {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        self.hooks.step(Step::Create);
        self.below.create(spec)
    }
    fn delete(&self, id: ObjId) -> Result<(), Error> {
        self.hooks.step(Step::Delete);
        self.below.delete(id)
    }
    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        self.below.stat(id)
    }
    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        self.below.map(id, rights)
    }
    unsafe fn unmap(&self, slot: Slot) {
        // SAFETY: the caller's promise is that of the same method.
        unsafe { self.below.unmap(slot) };
    }
    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.below.ensure(id, offset, len_bytes)
    }
    fn translation(&self) -> u64 {
        self.below.translation()
    }
    fn coordination(&self) -> u64 {
        self.below.coordination()
    }
    fn may_change(&self) -> Result<(), Error> {
        self.below.may_change()
    }
    fn thread(&self) -> u64 {
        self.hooks.thread(&self.below)
    }
    fn sink(&self) -> Sink {
        self.hooks.sink(&self.below)
    }
    fn log(&self, commit: &Commit<'_>) -> Result<Ticket, Error> {
        self.hooks.log(&self.below, commit)
    }
    fn durable(&self, end: u64) -> Result<u64, Error> {
        self.hooks.durable(&self.below, end)
    }
    fn publish_created(&self, created: &[ObjId]) -> Result<(), Error> {
        self.hooks.publish_created(&self.below, created)
    }
    fn applied(&self, ticket: Ticket) {
        self.hooks.applied(&self.below, ticket);
    }
    fn sync(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.below.sync(id, offset, len_bytes)
    }
    fn interleave(&self) {
        self.hooks.step(Step::Shared);
    }
    fn stored(&self, address: u64, len_bytes: u64) {
        self.below.stored(address, len_bytes);
        self.hooks.step(Step::Stored);
    }
    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        self.hooks.step(Step::Flush);
        // SAFETY: the caller's promise is that of the same method.
        unsafe { self.below.flush(address, len_bytes) };
    }
    fn fence(&self) {
        self.hooks.step(Step::Fence);
        self.below.fence();
    }
    fn keeps_stores(&self) -> bool {
        self.below.keeps_stores()
    }
    fn owner(&self) -> u64 {
        self.hooks.owner(&self.below)
    }
    fn is_alive(&self, owner: u64) -> bool {
        self.hooks.is_alive(&self.below, owner)
    }
    fn reads_slowly(&self) -> bool {
        self.hooks.reads_slowly(&self.below)
    }
    fn expect(&self, address: u64, len_bytes: u64) {
        self.hooks.expect(&self.below, address, len_bytes);
    }
    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        self.hooks.wait(&self.below, word, value, timeout_ns)
    }
    fn wake(&self, word: &AtomicU64) {
        self.hooks.wake(&self.below, word);
    }
    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        self.below.random(bytes)
    }
}
