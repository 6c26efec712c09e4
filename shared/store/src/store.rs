//! All persistent objects of a region.

use core::fmt;

use alloc::vec::Vec;

use lock_api::{Mutex, RawMutex};
use twizzler_abi::ObjId;
use twizzler_abi::SizeClass;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::{METADATA_OFFSET, Metadata};
use twizzler_abi::rights::ObjectFlags;
use twizzler_pmem::Persist;
use zerocopy::FromZeros;

use crate::error::Error;
use crate::format::{self, FormatOptions};
use crate::frames::{FrameKind, Frames, Need};
use crate::mount::{self, Access, MountError, MountOptions, MountReport};
use crate::nvm::{Counts, Nvm};
use crate::superblock::{State, Superblock, flag};
use crate::survey::{Quarantined, root_of};
use crate::table::Table;
use crate::table::bucket::{Record, Slot};
use crate::table::word::CommitWord;
use crate::tree::{Bound, Invalidate, Root, Tree, Usage};

/// A mounted store. Shared by CPUs: all methods take `&self`.
///
/// Its one lock protects the object table; it is taken inside objects' locks and outside the allocator's. Whoever calls
/// [`Store::extend`], [`Store::delete`], [`Store::promote`] or [`Store::set_type`] holds the object's own lock exclusively.
pub struct Store<P, L: RawMutex> {
    nvm: Nvm<P, L>,
    superblock: Superblock,
    access: Access,
    inner: Mutex<L, Inner>,
}

struct Inner {
    state: State,
    objects: u64,
    quarantine: Vec<Quarantined>,
}

/// An object that was found and whose metadata is verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its metadata page's fixed part.
    pub metadata: Metadata,
    /// What its ID is made of.
    pub inputs: IdInputs,
    /// Its size class.
    pub class: SizeClass,
    /// Its tree.
    pub root: Root,
}

/// What there is to say about an object. Of one in quarantine, as much as can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Its metadata, if it verifies.
    pub metadata: Option<Metadata>,
    /// Its size class.
    pub class: SizeClass,
    /// Its tree.
    pub root: Root,
    /// What it takes.
    pub usage: Usage,
    /// Why it is in quarantine, if it is.
    pub quarantine: Option<Error>,
}

impl<P, L: RawMutex> fmt::Debug for Store<P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("nvm", &self.nvm).finish_non_exhaustive()
    }
}

impl<P: Persist, L: RawMutex> Store<P, L> {
    /// Makes an empty store of the whole region. What was there is lost.
    ///
    /// # Errors
    /// [`MountError::TooSmall`], [`MountError::BadBase`], [`MountError::NoRoom`].
    pub fn format(media: &P, options: &FormatOptions) -> Result<(), MountError> {
        format::format(media, options)
    }

    /// Mounts the store in `media`, finishing what a power cut interrupted.
    ///
    /// # Errors
    /// [`MountError`] says what is wrong and what to do; nothing was changed then.
    pub fn mount(media: P, options: &MountOptions) -> Result<(Self, MountReport), MountError> {
        mount::mount(media, options)
    }

    pub(crate) fn new(
        nvm: Nvm<P, L>,
        superblock: Superblock,
        state: State,
        access: Access,
        objects: u64,
        quarantine: Vec<Quarantined>,
    ) -> Self {
        Self { nvm, superblock, access, inner: Mutex::new(Inner { state, objects, quarantine }) }
    }

    /// The frames that objects lie in: `Tree::new(store.frames(), root)`.
    pub const fn frames(&self) -> &Nvm<P, L> {
        &self.nvm
    }

    /// The region.
    pub fn media(&self) -> &P {
        self.nvm.media()
    }

    pub(crate) fn table(&self) -> Table<'_, P> {
        Table { media: self.nvm.media(), uuid: self.superblock.uuid, root: self.superblock.table }
    }

    fn writable(&self) -> Result<(), Error> {
        if self.access == Access::ReadWrite { Ok(()) } else { Err(Error::ReadOnly) }
    }

    /// Makes an object: durable on return; a power cut before leaves nothing of it.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::OutOfFrames`], [`Error::ReadOnly`], [`Error::InvalidArgument`] for inputs of a volatile
    /// object.
    pub fn create(&self, inputs: &IdInputs, fingerprint: u64) -> Result<ObjId, Error> {
        self.writable()?;
        if !inputs.flags.contains(ObjectFlags::PERSISTENT) {
            return Err(Error::InvalidArgument);
        }
        let metadata = Metadata::new(inputs, fingerprint);
        let tree = Tree::create(&self.nvm, &metadata)?;
        let word = CommitWord {
            frame: tree.root().frame().0 - self.nvm.first().0,
            level: tree.root().level(),
            class: inputs.flags.size_class(),
            bound: Bound::LINE,
        };
        let mut inner = self.inner.lock();
        let allocate = || {
            let frame = self.nvm.allocate(FrameKind::Table, Need::Store)?;
            Ok(frame.0 - self.nvm.first().0)
        };
        if let Err(error) = self.table().insert(metadata.id, word, allocate) {
            drop(inner);
            tree.destroy(&mut crate::tree::Unmapped);
            return Err(error);
        }
        inner.objects += 1;
        Ok(metadata.id)
    }

    /// Deletes an object: durable on return. Under the object's exclusive lock. One in quarantine goes too; its frames
    /// come back at the next mount.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::ReadOnly`], [`Error::Damaged`] where its part of the table is.
    pub fn delete(&self, id: ObjId, inv: &mut impl Invalidate) -> Result<(), Error> {
        if let Some(root) = self.unlink(id)? {
            Tree::new(&self.nvm, root).destroy(inv);
        }
        Ok(())
    }

    /// Deletes an object, but does not free its tree yet, which is returned unless it is in quarantine.
    ///
    /// # Errors
    /// As for [`Store::delete`].
    pub fn unlink(&self, id: ObjId) -> Result<Option<Root>, Error> {
        self.writable()?;
        let mut inner = self.inner.lock();
        let (slot, record) = self.table().find(id)?.ok_or(Error::NoSuchObject)?;
        let apart = inner.quarantined(id).is_some();
        self.table().commit(slot, 0);
        inner.objects = inner.objects.saturating_sub(1);
        inner.quarantine.retain(|other| other.id != id);
        Ok(match record {
            Record::Live(_, word) if !apart => Some(root_of(&self.nvm, word)),
            _ => None,
        })
    }

    /// Finds an object and verifies its metadata. One whose metadata does not verify is in quarantine from now on.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::Damaged`], [`Error::Unreadable`], [`Error::NotSupported`] for features this version
    /// doesn't know.
    pub fn open(&self, id: ObjId) -> Result<Opened, Error> {
        let mut inner = self.inner.lock();
        let (_, word) = self.live(&inner, id)?;
        let opened = self.verify(id, word);
        if let Err(why @ (Error::Damaged | Error::Unreadable)) = opened
            && inner.quarantine.try_reserve(1).is_ok()
        {
            inner.quarantine.push(Quarantined { id, why, page: None });
        }
        opened
    }

    /// The entry of an object that is not in quarantine.
    fn live(&self, inner: &Inner, id: ObjId) -> Result<(Slot, CommitWord), Error> {
        inner.quarantined(id).map_or(Ok(()), Err)?;
        match self.table().find(id)? {
            Some((slot, Record::Live(_, word))) => Ok((slot, word)),
            Some(_) => Err(Error::Damaged),
            None => Err(Error::NoSuchObject),
        }
    }

    pub(crate) fn verify(&self, id: ObjId, word: CommitWord) -> Result<Opened, Error> {
        use zerocopy::IntoBytes;
        let root = root_of(&self.nvm, word);
        let mut metadata = Metadata::new_zeroed();
        Tree::new(&self.nvm, root).read(METADATA_OFFSET, metadata.as_mut_bytes())?;
        let inputs = metadata.verify(id).map_err(|error| match error {
            twizzler_abi::Error::NotSupported => Error::NotSupported,
            _ => Error::Damaged,
        })?;
        Ok(Opened { metadata, inputs, class: word.class, root })
    }

    /// The tree's root as it is now, without a look at the metadata.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn root(&self, id: ObjId) -> Result<Root, Error> {
        let inner = self.inner.lock();
        Ok(root_of(&self.nvm, self.live(&inner, id)?.1))
    }

    /// Makes an object's tree reach `page`, and returns its root, which may have changed: higher tables over the old one.
    /// Durable on return. Under the object's exclusive lock.
    ///
    /// # Errors
    /// As for [`Store::open`]; [`Error::OutOfRange`] beyond the size class, [`Error::OutOfFrames`], [`Error::ReadOnly`].
    pub fn extend(&self, id: ObjId, page: u64) -> Result<Root, Error> {
        self.writable()?;
        let inner = self.inner.lock();
        let (slot, word) = self.live(&inner, id)?;
        if page >= word.class.range_bytes() / PAGE_BYTES {
            return Err(Error::OutOfRange);
        }
        let old = root_of(&self.nvm, word);
        if page < old.reach_pages() {
            return Ok(old);
        }
        let root = Tree::new(&self.nvm, old).raise(page)?;
        let frame = root.frame().0 - self.nvm.first().0;
        self.table()
            .commit(slot, CommitWord { frame, level: root.level(), bound: root.bound(), ..word }.encode());
        Ok(root)
    }

    /// Makes an object a large one: durable on return. Under the object's exclusive lock.
    ///
    /// # Errors
    /// As for [`Store::open`]; [`Error::ReadOnly`].
    pub fn promote(&self, id: ObjId) -> Result<(), Error> {
        self.writable()?;
        let inner = self.inner.lock();
        let (slot, word) = self.live(&inner, id)?;
        self.table().commit(slot, CommitWord { class: SizeClass::Large, ..word }.encode());
        Ok(())
    }

    /// Gives an object whose base type's fingerprint is `was` (0: it has none) another one: durable on return. Under the object's
    /// exclusive lock.
    ///
    /// # Errors
    /// As for [`Store::open`]; [`Error::WrongType`] where it has another type, [`Error::OutOfFrames`],
    /// [`Error::ReadOnly`].
    pub fn set_type(
        &self,
        id: ObjId,
        was: u64,
        fingerprint: u64,
        inv: &mut impl Invalidate,
    ) -> Result<(), Error> {
        self.writable()?;
        let opened = self.open(id)?;
        if opened.metadata.fingerprint == fingerprint {
            return Ok(());
        }
        if opened.metadata.fingerprint != was {
            return Err(Error::WrongType);
        }
        let metadata = Metadata { fingerprint, ..opened.metadata }.sealed();
        Tree::new(&self.nvm, opened.root).set_metadata(&metadata, inv)
    }

    /// Describes an object, one in quarantine too.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::Damaged`] where not even its entry makes sense.
    pub fn stat(&self, id: ObjId) -> Result<Stat, Error> {
        let inner = self.inner.lock();
        let quarantine = inner.quarantined(id);
        let (_, record) = self.table().find(id)?.ok_or(Error::NoSuchObject)?;
        drop(inner);
        let Record::Live(_, word) = record else { return Err(Error::Damaged) };
        let root = root_of(&self.nvm, word);
        let metadata = self.verify(id, word).ok().map(|opened| opened.metadata);
        let usage = Tree::new(&self.nvm, root).usage().unwrap_or_default();
        Ok(Stat { metadata, class: word.class, root, usage, quarantine })
    }

    /// The object with the least ID greater than `id`; start with [`ObjId::NONE`]. Those in quarantine too.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the table is.
    pub fn next_after(&self, id: ObjId) -> Result<Option<ObjId>, Error> {
        let _inner = self.inner.lock();
        self.table().next_after(id)
    }

    /// Frames by use.
    pub fn counts(&self) -> Counts {
        self.nvm.counts()
    }

    /// Objects, those in quarantine too.
    pub fn objects(&self) -> u64 {
        self.inner.lock().objects
    }

    /// Objects in quarantine.
    pub fn quarantined(&self) -> u64 {
        self.inner.lock().quarantine.len() as u64
    }

    /// What is in quarantine, by number.
    pub fn quarantine_at(&self, number: usize) -> Option<Quarantined> {
        self.inner.lock().quarantine.get(number).copied()
    }

    /// Mounts for writing so far, this one too: differs at every boot.
    pub fn boots(&self) -> u64 {
        self.inner.lock().state.boots
    }

    /// What tells this store apart.
    pub const fn uuid(&self) -> [u8; 16] {
        self.superblock.uuid
    }

    /// Physical address that the trees count from.
    pub fn base(&self) -> u64 {
        self.nvm.first().physical()
    }

    /// For reading or for writing.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Root object of the persistent names, or [`ObjId::NONE`].
    pub fn names_root(&self) -> ObjId {
        self.inner.lock().state.names_root
    }

    /// Sets the root object of the persistent names: durable on return; a power cut leaves the old one or the new.
    ///
    /// # Errors
    /// [`Error::ReadOnly`].
    pub fn set_names_root(&self, id: ObjId) -> Result<(), Error> {
        self.change_state(|state| State { names_root: id, ..state })
    }

    /// Notes that all is well: the next mount sees that the store was shut down.
    ///
    /// # Errors
    /// [`Error::ReadOnly`].
    pub fn shutdown(&self) -> Result<(), Error> {
        self.change_state(|state| state.with(flag::CLEAN, true))
    }

    fn change_state(&self, change: impl FnOnce(State) -> State) -> Result<(), Error> {
        self.writable()?;
        let mut inner = self.inner.lock();
        inner.state = change(inner.state).replace(self.nvm.media());
        Ok(())
    }

    /// Zeroes frames ahead, at most `limit`: for a CPU without work. Returns how many.
    pub fn prepare(&self, limit: usize) -> usize {
        self.nvm.prepare(limit)
    }

    /// Reads bytes of an object; what is empty reads as zero.
    ///
    /// # Errors
    /// As for [`Store::open`] and [`Tree::read`].
    pub fn read_at(&self, id: ObjId, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let root = self.root(id)?;
        Tree::new(&self.nvm, root).read(offset, buffer)
    }

    /// Writes bytes of an object, filling pages and raising the tree as needed: durable on return. For tools, and for
    /// objects that nobody has mapped.
    ///
    /// # Errors
    /// As for [`Store::extend`] and [`Tree::write`].
    pub fn write_at(&self, id: ObjId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(Error::OutOfRange)?;
        let root = self.extend(id, (end - 1) / PAGE_BYTES)?;
        Tree::new(&self.nvm, root).write(offset, bytes)?;
        self.nvm.media().fence();
        Ok(())
    }

    /// Everything that is in use must be what the trees refer to: see [`crate::check::CheckReport`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn check(&self) -> Result<crate::check::CheckReport, Error> {
        let _inner = self.inner.lock();
        crate::check::check(self, self.superblock.len_bytes / PAGE_BYTES)
    }
}

impl Inner {
    fn quarantined(&self, id: ObjId) -> Option<Error> {
        self.quarantine.iter().find(|other| other.id == id).map(|other| other.why)
    }
}
