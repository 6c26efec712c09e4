//! Opening, making and closing stores.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;

use rustix::fs::OFlags;
use twizzler_abi::ObjId;
use twizzler_object::Space;
use twizzler_pmem::cache::WriteBack;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::fork::Birth;
use crate::hosted::HostedBackend;
use crate::medium::{self, Medium};
use crate::objects::{self, NEW, OBJECTS};
use crate::options::{Durability, LOG_BYTES_MIN, Mode, Options};
use crate::persistence::Persistence;
use crate::process;
use crate::segment::{GATE, Gate, Joined, Segment};
use crate::superblock::{self, Superblock};

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
        self.space.backend().disk.path()
    }

    /// All objects, in no order, those of the library among them.
    ///
    /// # Errors
    /// The host's.
    pub fn objects(&self) -> io::Result<Vec<ObjId>> {
        objects::list(&self.space.backend().disk)
    }

    /// Closes the store: all that was committed is in place and on the disk, if this was the last process that had it open. Dropping it does
    /// the same, but says nothing where that fails; nothing is lost then either, the next one who opens the store has more to do.
    ///
    /// # Errors
    /// The host's.
    pub fn close(self) -> Result<(), StoreError> {
        drop(self);
        Ok(())
    }

    pub(crate) fn create_with(path: &Path, options: &Options) -> Result<Self, StoreError> {
        if options.log_bytes < LOG_BYTES_MIN {
            return Err(StoreError::TooSmall { what: "the log", bytes_min: LOG_BYTES_MIN });
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut entries = fs::read_dir(path).map_err(not_a_directory("reading", path))?;
                if path.join(superblock::FILE).exists() {
                    return Err(StoreError::Exists { path: path.to_owned() });
                }
                if entries.any(|entry| entry.is_ok_and(|entry| !is_part_of_a_store(&entry.file_name()))) {
                    return Err(StoreError::NotEmpty { path: path.to_owned() });
                }
            }
            result => result.map_err(StoreError::io("making", path))?,
        }
        let disk = Disk::open(path, options.observer.clone()).map_err(StoreError::io("opening", path))?;
        medium::look(disk.root())?;
        format(&disk, options).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Exists { path: path.to_owned() },
            _ => StoreError::io("making a store in", path)(error),
        })?;
        Self::open_with(path, options)
    }

    pub(crate) fn open_with(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let disk = Disk::open(path, options.observer.clone()).map_err(not_a_directory("opening", path))?;
        let medium = medium::look(disk.root())?;
        // Before the gate: what is no store has none.
        read_superblock(&disk, options.mode)?;
        let gate = Gate::enter(&disk)?;
        let mut block = read_superblock(&disk, options.mode)?;
        let (segment, joined) = Segment::join(&gate, &disk, block.uuid)?;
        let persistence = persistence(&disk, options, &block, medium)?;
        if joined == Joined::First {
            prepare(&disk, options, &mut block, &persistence)?;
        }
        if let Some(number) = options.first_slot {
            twizzler_slots::start_at(number);
        }
        let birth = Birth::new().map_err(StoreError::io("mapping memory for", path))?;
        let owner = segment.enroll()?;
        let backend = HostedBackend {
            disk,
            segment,
            owner,
            mode: options.mode,
            persistence,
            mapped: Default::default(),
            tables: Default::default(),
            birth,
        };
        if joined == Joined::First && options.mode == Mode::Write {
            let abandoned = objects::remove_abandoned(&backend.disk, |owner| backend.segment.is_alive(owner));
            abandoned.map_err(StoreError::io("cleaning up", path))?;
        }
        drop(gate);
        Ok(Self { space: Space::attach(backend)? })
    }
}

/// What a store is made of: found alone, it is one whose making was cut off.
fn is_part_of_a_store(name: &std::ffi::OsStr) -> bool {
    let new = format!("{}.new", superblock::FILE);
    [OBJECTS, NEW, GATE, "log", new.as_str()].iter().any(|&part| name == part)
}

fn not_a_directory(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path: path.to_owned() },
        io::ErrorKind::NotADirectory => StoreError::NotADirectory { path: path.to_owned() },
        _ => StoreError::io(what, path)(error),
    }
}

/// Makes the files of a store. The description comes last: without it, there is none.
fn format(disk: &Disk, options: &Options) -> io::Result<()> {
    let mut uuid = [0; 16];
    process::random(&mut uuid)?;
    disk.make_directory(OBJECTS)?;
    disk.make_directory(NEW)?;
    match disk.create(GATE) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let durability = options.durability.unwrap_or_default();
    let block = Superblock::new(uuid, options.log_bytes, durability);
    let new = format!("{}.new", superblock::FILE);
    disk.remove(&new)?;
    let file = disk.create(&new)?;
    disk.write_at(&file, &new, 0, &block.sealed())?;
    disk.sync_file(&file, &new)?;
    disk.sync_directory(".")?;
    // COMMIT: the store exists.
    disk.rename_new(&new, superblock::FILE)?;
    disk.sync_directory(".")
}

fn read_superblock(disk: &Disk, mode: Mode) -> Result<Superblock, StoreError> {
    let path = disk.path().join(superblock::FILE);
    let mut bytes = Vec::new();
    let file = disk.open_file(superblock::FILE, OFlags::RDONLY).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotAStore { path: disk.path().to_owned() },
        _ => StoreError::io("opening", &path)(error),
    })?;
    file.take(4096).read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
    Superblock::parse(&bytes, mode)
}

/// How stores to this store's objects become durable, as it was asked for.
fn persistence(
    disk: &Disk,
    options: &Options,
    block: &Superblock,
    medium: Medium,
) -> Result<Persistence, StoreError> {
    let has = block.durability();
    if options.durability == Some(Durability::PowerCut)
        && has != Durability::PowerCut
        && !options.persistent_memory
    {
        return Err(StoreError::Durability { store: has, asked: Durability::PowerCut });
    }
    if options.persistent_memory {
        return Ok(Persistence::Stores { flush: Some(WriteBack::detect()), direct: false });
    }
    if options.durability.unwrap_or(has) == Durability::ProcessKill {
        return Ok(Persistence::Stores { flush: None, direct: false });
    }
    let file = disk.open_file(superblock::FILE, OFlags::RDWR);
    if file.is_ok_and(|file| medium::is_direct(&file)) {
        return Ok(Persistence::Stores { flush: Some(WriteBack::detect()), direct: true });
    }
    if medium == Medium::Memory && options.observer.is_none() {
        return Err(StoreError::Unsuitable {
            what: "it lies in main memory, which a power cut clears: Durability::ProcessKill is what it can do",
        });
    }
    Ok(Persistence::Sync { dirty: Default::default() })
}

/// What the first one who opens the store does before anyone works with it.
fn prepare(
    disk: &Disk,
    options: &Options,
    block: &mut Superblock,
    persistence: &Persistence,
) -> Result<(), StoreError> {
    let boot = process::boot();
    if block.open_in != [0; 16] && block.open_in != boot {
        return Err(StoreError::Lost);
    }
    if options.mode == Mode::Read {
        return Ok(());
    }
    if !persistence.syncs() {
        block.set_durability(Durability::ProcessKill);
        block.open_in = boot;
        disk.replace(superblock::FILE, &block.sealed()).map_err(StoreError::io("marking", disk.path()))?;
    }
    Ok(())
}

impl Drop for HostedBackend {
    fn drop(&mut self) {
        if self.birth.is_forked() {
            // The parent goes on with all of it.
            return;
        }
        // Where this fails, the store counts as not closed in order.
        let _ = leave(self);
    }
}

fn leave(backend: &HostedBackend) -> Result<(), StoreError> {
    let gate = Gate::enter(&backend.disk)?;
    backend.segment.leave(backend.owner);
    if !backend.segment.is_alone(&gate) {
        return Ok(());
    }
    if backend.mode == Mode::Write && !backend.segment.is_poisoned() && !backend.persistence.syncs() {
        let path = backend.disk.path();
        rustix::fs::syncfs(backend.disk.root()).map_err(StoreError::io("syncing", path))?;
        let mut block = read_superblock(&backend.disk, backend.mode)?;
        block.open_in = [0; 16];
        backend.disk.replace(superblock::FILE, &block.sealed()).map_err(StoreError::io("marking", path))?;
    }
    backend.segment.remove();
    Ok(())
}

impl Deref for Store {
    type Target = Space<HostedBackend>;

    fn deref(&self) -> &Self::Target {
        &self.space
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).finish_non_exhaustive()
    }
}
