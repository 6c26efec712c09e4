//! How a store is opened.

use std::path::Path;
use std::sync::Arc;

use crate::disk::Observer;
use crate::error::StoreError;
use crate::hosted::HostedBackend;
use crate::store::Store;

/// What a committed transaction survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// A cut of the power at any moment, and all below.
    #[default]
    PowerCut,
    /// The end of the process at any moment, by any signal; not that of the machine. Commits wait for no disk. The store is
    /// marked for good: it can't be opened for [`Durability::PowerCut`] any more, and what a machine's crash leaves of it is refused.
    ProcessKill,
}

/// What the program will do with the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Read and write.
    #[default]
    Write,
    /// Read. Nothing in the directory is changed; a store that needs recovery is refused, unless somebody who may write has it open.
    Read,
}

/// How a store is opened. [`Store::open`] and its siblings take the defaults.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// use twizzler::{Durability, Options};
/// let store = Options::new().durability(Durability::ProcessKill).create(&path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// None: whatever the store has.
    pub(crate) durability: Option<Durability>,
    pub(crate) mode: Mode,
    pub(crate) log_bytes: u64,
    pub(crate) persistent_memory: bool,
    pub(crate) salvage: bool,
    pub(crate) first_slot: Option<u32>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// Bytes of the log, unless [`Options::log_bytes`] says otherwise.
const LOG_BYTES: u64 = 64 << 20;
/// Less would make every other commit wait for a checkpoint.
pub(crate) const LOG_BYTES_MIN: u64 = 1 << 20;

impl Options {
    /// Durable through power cuts, for reading and writing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            durability: Some(Durability::PowerCut),
            mode: Mode::Write,
            log_bytes: LOG_BYTES,
            persistent_memory: false,
            salvage: false,
            first_slot: None,
            observer: None,
        }
    }

    /// What a committed transaction is to survive.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Takes the store as it is marked. For tools, that must open whatever there is; a program says what it relies on. A new store is
    /// made for power cuts.
    #[must_use]
    pub const fn any_durability(mut self) -> Self {
        self.durability = None;
        self
    }

    /// What the program will do.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Size of the log of a store that is to be created: 64 MiB by default, 1 MiB at least. It bounds the work that is left to do after a
    /// crash, and the size of one transaction.
    #[must_use]
    pub const fn log_bytes(mut self, bytes: u64) -> Self {
        self.log_bytes = bytes;
        self
    }

    /// Treats the store's files as persistent memory although the host can't confirm it: what was written back from the CPU's caches
    /// counts as durable, and no disk is waited for. For measuring on tmpfs what DAX would do, and for file systems on persistent
    /// memory that lack `MAP_SYNC`. The store is marked as with [`Durability::ProcessKill`], because on anything else a power cut spoils it.
    #[must_use]
    pub const fn assume_persistent_memory(mut self) -> Self {
        self.persistent_memory = true;
        self
    }

    /// Opens what else would be refused as damaged or lost, and gives up what can't be had: records of the log that are damaged, and what
    /// a machine's crash has spoiled of a store for [`Durability::ProcessKill`]. For tools that save what there is. [`crate::Replayed`] says
    /// if records were given up.
    #[must_use]
    pub const fn salvage(mut self) -> Self {
        self.salvage = true;
        self
    }

    /// Maps objects of this process from slot `number` on (design, section 5). For tests that want two processes to have the same objects
    /// at different addresses.
    #[must_use]
    pub const fn first_slot(mut self, number: u32) -> Self {
        self.first_slot = Some(number);
        self
    }

    /// Tells `observer` of everything that is done to the disk. For tests.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Opens a store.
    ///
    /// # Errors
    /// [`StoreError`] says which of the many things is wrong. Nothing has been changed then.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        Store::over(HostedBackend::open(path.as_ref(), self)?)
    }

    /// Makes a store, in a directory that doesn't exist or is empty.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::NotEmpty`], and as [`Options::open`].
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        Store::over(HostedBackend::create(path.as_ref(), self)?)
    }

    /// Opens a store; makes it where there is none.
    ///
    /// # Errors
    /// As [`Options::open`] and [`Options::create`].
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Store, StoreError> {
        match self.create(path.as_ref()) {
            Err(StoreError::Exists { .. }) => self.open(path),
            result => result,
        }
    }
}

impl Options {
    /// Opens a store, but not its objects: for tools that look at files, and for tests of the backend.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open_backend(&self, path: impl AsRef<Path>) -> Result<HostedBackend, StoreError> {
        HostedBackend::open(path.as_ref(), self)
    }

    /// Makes a store and opens it as [`Options::open_backend`] does.
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn create_backend(&self, path: impl AsRef<Path>) -> Result<HostedBackend, StoreError> {
        HostedBackend::create(path.as_ref(), self)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
