//! What the programming model asks of the system below it.
//!
//! [`Backend`] makes and deletes objects, maps them, and makes memory durable. The runtime implements it
//! with calls into the kernel, `host/image` with an NVM image or anonymous memory, the crash simulator
//! with memory whose every store it sees. All state that a program has in memory hangs off the
//! [`crate::Space`] that owns the backend: drop it, and nothing remains but the objects.

use core::sync::atomic::AtomicU64;

use twizzler_abi::address::{LARGE_SLOTS, SLOT_BYTES, SLOTS_PER_PML4, SMALL_SLOTS, Slot};
use twizzler_abi::call::{CreateSpec, ObjectStat};
use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights};

pub use crate::coordination::begin_changes_of_dead;
use crate::memory;
use crate::pointer::Span;
pub use crate::sink::{Commit, Sink, Ticket};

/// Words of one row of the translation table: one for each FOT index that it serves, and a line of skew,
/// so that the same index of neighbouring rows does not compete for one cache set.
pub const ROW_WORDS: u64 = 128 + 8;
/// Rows of the translation table: one for each slot of small objects, then one for each range of large ones.
const ROWS: u32 =
    SMALL_SLOTS.end - SMALL_SLOTS.start + (LARGE_SLOTS.end - LARGE_SLOTS.start) / SLOTS_PER_PML4;
/// Bytes of the translation table.
pub const TRANSLATION_BYTES: u64 = ROWS as u64 * ROW_WORDS * 8;

const _: () = assert!(TRANSLATION_BYTES < SLOT_BYTES / 2);

/// Bytes of the coordination segment.
pub const COORDINATION_BYTES: u64 = 512 * 1024;

/// What the ID of an object commits to that [`Backend::create`] is to make. `draw` gives a nonce where the spec has none.
///
/// # Errors
/// [`Error::InvalidArgument`] for flags or rights that there are none of; what `draw` says.
pub fn inputs_of(
    spec: &CreateSpec,
    draw: impl FnOnce(&mut [u8; 16]) -> Result<(), Error>,
) -> Result<IdInputs, Error> {
    let flags = ObjectFlags::checked(spec.flags)?;
    let default_rights = Rights::granted(spec.default_rights)?;
    let mut nonce = spec.nonce;
    if nonce == [0; 16] {
        draw(&mut nonce)?;
    }
    Ok(IdInputs { nonce, owner: spec.owner, flags, default_rights })
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// Woken, or the word had changed, or for no reason: before the time was up.
    Early,
    /// The time was up.
    TimedOut,
}

/// The system below. A backend that is `Sync` is called by several threads at once.
///
/// # Safety
/// The implementor promises, for as long as the backend lives:
/// - [`Backend::map`] returns a slot of small objects, or for an object that [`Backend::stat`] calls large the first slot of a range of
///   large ones. Until it is unmapped, every access to the range beyond the null page either reaches that object's memory, or stops the program (a fault);
///   nothing in that range is memory that Rust allocated for something else. Its provenance is exposed.
/// - [`Backend::translation`] returns the 8-byte aligned address of [`TRANSLATION_BYTES`] of memory,
///   zero at first, which nobody else writes. Its provenance is exposed.
/// - [`Backend::coordination`] returns the page-aligned address of [`COORDINATION_BYTES`] of memory, the same for all programs of the
///   system though not at the same address; zero at first, and again after each boot. Its provenance is exposed.
pub unsafe trait Backend {
    /// Makes an object. Durable and whole when it returns, for a persistent one; its pages read as zeros.
    /// The ID is [`ObjId::derive`] of the spec's nonce (random where the nonce is zero), owner, flags and rights.
    ///
    /// # Errors
    /// [`Error::Exists`], out of memory or NVM, and the system's own.
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error>;

    /// Deletes an object. Durable when it returns.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`] and the system's own.
    fn delete(&self, id: ObjId) -> Result<(), Error>;

    /// Describes an object.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`] and the system's own.
    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error>;

    /// Maps an object at a slot of its own, with `rights` (read, or read and write). Called once for an object that
    /// is not mapped; an object that does not exist is an error here, not a fault later.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::AccessDenied`], [`Error::Damaged`], [`Error::TooMany`].
    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error>;

    /// Ends a mapping that [`Backend::map`] made.
    ///
    /// # Safety
    /// Nobody uses the mapping any more, neither by references nor by addresses.
    unsafe fn unmap(&self, slot: Slot);

    /// Makes the pages of `[offset, offset + len_bytes)` exist, durably, so that no access to them can fail for want of
    /// memory. The range need not be aligned.
    ///
    /// # Errors
    /// [`Error::OutOfNvm`], [`Error::OutOfMemory`], [`Error::OutOfRange`].
    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error>;

    /// Gives an object whose base type's fingerprint is `was` another one, durably and at once for all. Nothing to do where it has that
    /// already.
    ///
    /// # Errors
    /// [`Error::WrongType`] where it is neither; [`Error::NotSupported`] where the system can't.
    fn set_type(&self, id: ObjId, was: u64, fingerprint: u64) -> Result<(), Error> {
        let _ = (id, was, fingerprint);
        Err(Error::NotSupported)
    }

    /// Makes an object large, durably; nothing to do where it is that already. This program has not mapped it; where another one has, it goes on
    /// seeing the first GiB.
    ///
    /// # Errors
    /// [`Error::Busy`] where others have mapped it, and the system can't have it in two sizes; [`Error::NotSupported`] where the system can't.
    fn promote(&self, id: ObjId) -> Result<(), Error> {
        let _ = id;
        Err(Error::NotSupported)
    }

    /// Makes sure that no other program uses an object, which this one has not mapped: [`Error::Busy`] where one has it mapped, and from now on where
    /// one wants to map it, until [`Backend::share`].
    ///
    /// The usual way only asks: a program that maps the object at this very moment is not noticed.
    ///
    /// # Errors
    /// [`Error::Busy`]; [`Error::NoSuchObject`] and the system's own.
    fn claim(&self, id: ObjId) -> Result<(), Error> {
        if self.stat(id)?.mappings == 0 { Ok(()) } else { Err(Error::Busy) }
    }

    /// True where no other program has an object mapped that this one has mapped. One that maps it from now on need not be noticed.
    fn is_sole(&self, id: ObjId) -> bool {
        self.stat(id).is_ok_and(|stat| stat.mappings <= 1)
    }

    /// Ends what [`Backend::claim`] began. Again, this program has not mapped the object.
    fn share(&self, id: ObjId) {
        let _ = id;
    }

    /// Is told of each object that is still mapped when the space ends. Nothing to do where the system notices by itself.
    fn left(&self, slot: Slot) {
        let _ = slot;
    }

    /// Address of the translation table's memory.
    fn translation(&self) -> u64;

    /// Address of the *coordination segment*: volatile memory that all programs share. Locks, ages of transactions, who owns which
    /// lane, and which readers are inside lie there, never in persistent words. Waits ([`Backend::wait`]) are on its words too.
    fn coordination(&self) -> u64;

    /// Is asked when a transaction begins: may this program change anything? A process that was forked off its program may not.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    fn may_change(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The number of the thread that asks: even, not 0, and no other thread of the program that runs has it. By their halves, modulo the sizes of small
    /// tables, threads find places of their own there: best are 2, 4, 6 and so on.
    fn thread(&self) -> u64;

    /// How commits become durable.
    fn sink(&self) -> Sink {
        Sink::Lanes
    }

    /// For [`Sink::Log`]: gives a record its place in the log, for which the disk isn't waited for. The caller holds the locks of all that
    /// it changes. When the record is [`Backend::durable`], he says [`Backend::publish_created`] where it makes objects, applies it in place,
    /// performs its deletes, and then says [`Backend::applied`].
    ///
    /// # Errors
    /// Where the record has no place and never will: the transaction is undone. [`Error::Exists`] where someone else has
    /// meanwhile published an object that it made.
    fn log(&self, commit: &Commit<'_>) -> Result<Ticket, Error> {
        let _ = commit;
        Err(Error::NotSupported)
    }

    /// For [`Sink::Log`]: waits until all records that end at `end` or before are durable, together with those of other threads where that
    /// is faster. Gives the end of all that is durable; asked for 0, at once.
    ///
    /// # Errors
    /// Where they are not, and nothing that is logged and not durable ever will be, as after a failed sync.
    fn durable(&self, end: u64) -> Result<u64, Error> {
        let _ = end;
        Err(Error::NotSupported)
    }

    /// For [`Sink::Log`]: objects that a durable record makes exist from now on.
    ///
    /// # Errors
    /// Where they don't, before the next recovery: nothing can be changed until then.
    fn publish_created(&self, created: &[ObjId]) -> Result<(), Error> {
        let _ = created;
        Err(Error::NotSupported)
    }

    /// For [`Sink::Log`]: the record is in place in memory, its deletes done. Once that memory is written back, it need not be replayed.
    fn applied(&self, ticket: Ticket) {
        let _ = ticket;
    }

    /// For [`Sink::Log`]: makes what was stored to a range durable, and sees to it that no older record is ever replayed over it.
    /// The range is of memory that nobody can reach before the commit that follows.
    ///
    /// # Errors
    /// Where it is not durable: the transaction is undone.
    fn sync(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        let _ = (id, offset, len_bytes);
        Err(Error::NotSupported)
    }

    /// True where reading memory for the first time is so slow that it pays to say what will be read ([`Backend::expect`]).
    #[inline(always)]
    fn reads_slowly(&self) -> bool {
        false
    }

    /// Is told of memory of mapped objects that will be read soon.
    fn expect(&self, address: u64, len_bytes: u64) {
        let _ = (address, len_bytes);
    }

    /// Is called before each access to words that threads and programs share. For models that try all orders; costs nothing
    /// elsewhere.
    #[inline(always)]
    fn interleave(&self) {}

    /// Is told, right after it happened and in program order, of each store to object memory. Atomic for aligned
    /// words, in program order for each cache line. For the simulator; costs nothing elsewhere.
    #[inline(always)]
    fn stored(&self, address: u64, len_bytes: u64) {
        let _ = (address, len_bytes);
    }

    /// Starts writing back every cache line that holds a byte of the range.
    ///
    /// # Safety
    /// The range lies in mapped object memory.
    unsafe fn flush(&self, address: u64, len_bytes: u64);

    /// Stores words, which nobody reads soon, and starts writing them back. Lengths are equal.
    ///
    /// # Safety
    /// The object is mapped for writing.
    #[inline]
    unsafe fn stream(&self, to: Span<'_, u64>, words: &[u64]) {
        memory::write_words(self, to, words);
        memory::flush(self, to);
    }

    /// Waits until all that was flushed is durable.
    fn fence(&self);

    /// True where each store counts as soon as it is made, so that flushes and fences cost nothing: what is to survive is a killed program, not a power
    /// cut. What nobody can reach before a commit is then written in place at once, and not to a record first: but for [`Sink::Log`], where this says
    /// nothing. Always the same for all programs of a store. A fence still keeps the compiler from moving stores across it.
    #[inline]
    fn keeps_stores(&self) -> bool {
        false
    }

    /// The word that this program's claims on locks and lanes carry: even, not 0, and never used by another
    /// program, not in an earlier boot either.
    fn owner(&self) -> u64;

    /// True while the program of that owner word may still act. False for words of earlier boots. With [`Sink::Log`], false only
    /// after what the dead program had logged is in place, and what it had made and not published is gone.
    fn is_alive(&self, owner: u64) -> bool;

    /// Waits while the word, which others have mapped too where they are to wake the waiter, equals `value`, at most `timeout_ns`; may return early, and says whether it did.
    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited;

    /// Wakes all who wait on the word.
    fn wake(&self, word: &AtomicU64);

    /// Fills with random bytes.
    ///
    /// # Errors
    /// The system's own.
    fn random(&self, bytes: &mut [u8]) -> Result<(), Error>;
}

// SAFETY: the promise is the referent's, which lives at least as long.
unsafe impl<B: Backend> Backend for &B {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        (**self).create(spec)
    }
    fn delete(&self, id: ObjId) -> Result<(), Error> {
        (**self).delete(id)
    }
    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        (**self).stat(id)
    }
    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        (**self).map(id, rights)
    }
    unsafe fn unmap(&self, slot: Slot) {
        // SAFETY: the caller's promise is that of the same method.
        unsafe { (**self).unmap(slot) };
    }
    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        (**self).ensure(id, offset, len_bytes)
    }
    fn set_type(&self, id: ObjId, was: u64, fingerprint: u64) -> Result<(), Error> {
        (**self).set_type(id, was, fingerprint)
    }
    fn promote(&self, id: ObjId) -> Result<(), Error> {
        (**self).promote(id)
    }
    fn claim(&self, id: ObjId) -> Result<(), Error> {
        (**self).claim(id)
    }
    fn is_sole(&self, id: ObjId) -> bool {
        (**self).is_sole(id)
    }
    fn share(&self, id: ObjId) {
        (**self).share(id);
    }
    fn left(&self, slot: Slot) {
        (**self).left(slot);
    }
    fn translation(&self) -> u64 {
        (**self).translation()
    }
    fn coordination(&self) -> u64 {
        (**self).coordination()
    }
    #[inline]
    fn may_change(&self) -> Result<(), Error> {
        (**self).may_change()
    }
    #[inline]
    fn thread(&self) -> u64 {
        (**self).thread()
    }
    fn sink(&self) -> Sink {
        (**self).sink()
    }
    fn log(&self, commit: &Commit<'_>) -> Result<Ticket, Error> {
        (**self).log(commit)
    }
    fn durable(&self, end: u64) -> Result<u64, Error> {
        (**self).durable(end)
    }
    fn publish_created(&self, created: &[ObjId]) -> Result<(), Error> {
        (**self).publish_created(created)
    }
    fn applied(&self, ticket: Ticket) {
        (**self).applied(ticket);
    }
    fn sync(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        (**self).sync(id, offset, len_bytes)
    }
    #[inline(always)]
    fn reads_slowly(&self) -> bool {
        (**self).reads_slowly()
    }
    fn expect(&self, address: u64, len_bytes: u64) {
        (**self).expect(address, len_bytes);
    }
    #[inline(always)]
    fn interleave(&self) {
        (**self).interleave();
    }
    #[inline(always)]
    fn stored(&self, address: u64, len_bytes: u64) {
        (**self).stored(address, len_bytes);
    }
    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        // SAFETY: the caller's promise is that of the same method.
        unsafe { (**self).flush(address, len_bytes) };
    }
    unsafe fn stream(&self, to: Span<'_, u64>, words: &[u64]) {
        // SAFETY: the caller's promise is that of the same method.
        unsafe { (**self).stream(to, words) };
    }
    fn fence(&self) {
        (**self).fence();
    }
    fn keeps_stores(&self) -> bool {
        (**self).keeps_stores()
    }
    fn owner(&self) -> u64 {
        (**self).owner()
    }
    fn is_alive(&self, owner: u64) -> bool {
        (**self).is_alive(owner)
    }
    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        (**self).wait(word, value, timeout_ns)
    }
    fn wake(&self, word: &AtomicU64) {
        (**self).wake(word);
    }
    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        (**self).random(bytes)
    }
}
