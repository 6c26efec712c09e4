//! What a program holds of a store.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::PoisonError;

use twizzler_abi::ObjId;
use twizzler_object::Space;

use crate::error::StoreError;
use crate::hosted::HostedBackend;
use crate::objects;
use crate::options::Options;

/// An open store: a directory of objects. It derefs to the [`Space`] that they are used through.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// use twizzler::{Durability, Error, Names, NameError, Options};
///
/// let store = Options::new().durability(Durability::ProcessKill).create(&path)?;
/// let guard = store.enter();
/// let names = Names::open(&guard)?;
/// guard.transact(|tx| {
///     let file = names.create_any(tx, "greeting")?;
///     tx.write_at(file, 0, b"hello")?;
///     tx.set_len_bytes(file, 5)?;
///     Ok::<_, NameError>(())
/// })?;
/// # Ok(())
/// # }
/// ```
pub struct Store {
    space: Space<HostedBackend>,
}

impl Store {
    /// Opens a store with the usual [`Options`]: for reading and writing, durable through power cuts.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Options::new().open(path)
    }

    /// Makes a store with the usual [`Options`].
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Options::new().create(path)
    }

    /// Opens a store; makes it where there is none.
    ///
    /// # Errors
    /// As [`Options::open_or_create`].
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Options::new().open_or_create(path)
    }

    /// What the store's objects are used through.
    #[must_use]
    pub const fn space(&self) -> &Space<HostedBackend> {
        &self.space
    }

    /// The store's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.space.backend().base.disk.path()
    }

    /// All objects, in no order, those of the library among them.
    ///
    /// # Errors
    /// The host's.
    pub fn objects(&self) -> io::Result<Vec<ObjId>> {
        objects::list(&self.space.backend().base.disk)
    }

    /// Closes the store: all that was committed is in place and on the disk, if this was the last process that had it open. Dropping it does
    /// the same, but says nothing where that fails; nothing is lost then either, the next one who opens the store has more to do.
    ///
    /// # Errors
    /// The host's.
    pub fn close(self) -> Result<(), StoreError> {
        let left = self.space.backend().left.clone();
        drop(self);
        left.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(Ok(()))
    }

    pub(crate) fn over(backend: HostedBackend) -> Result<Self, StoreError> {
        let space = Space::attach(backend)?;
        space.resolve_names_by(twizzler_names::resolve);
        Ok(Self { space })
    }
}

impl Deref for Store {
    type Target = Space<HostedBackend>;

    fn deref(&self) -> &Self::Target {
        &self.space
    }
}

/// For what needs the space exclusively: [`Space::migrate`], [`Space::promote`].
impl DerefMut for Store {
    fn deref_mut(&mut self) -> &mut Space<HostedBackend> {
        &mut self.space
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).finish_non_exhaustive()
    }
}
