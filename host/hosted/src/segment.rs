//! Memory that all processes share that have the store open: volatile, made anew by the first of them.
//!
//! A file in `/dev/shm`, named after the store, or in the store itself where there is no such place. It holds who is there, and
//! whether the store is poisoned.
//! Those of processes that were killed are removed by the next one who makes a segment, of whatever store ([`crate::sweep`]).
//! Its life hangs on locks (flock(2)) that the host releases when a process ends, however it does: who opens or closes holds the
//! *gate*, so that one at a time does; who has the store open holds a share of the *users' lock*. Who can have that lock alone is
//! the first: whatever segment is there is of the dead.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use twizzler_abi::Error;
use twizzler_object::backend::COORDINATION_BYTES;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::log::shared::{LogShared, RING_BYTES};
use crate::objects::OBJECTS;
use crate::process::{self, Process};
use crate::sweep;

/// How long one waits for the gate. An opening takes longer only where a gigabyte of log is replayed to a slow disk.
const GATE_PATIENCE: Duration = Duration::from_secs(60);
/// How long one waits for a process that is dying.
const DYING_PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(2);
/// The file whose lock is the gate.
pub(crate) const GATE: &str = "lock";
/// The directory whose lock is the users' lock.
const USERS: &str = OBJECTS;
/// Processes that can have one store open.
pub(crate) const OWNERS_MAX: usize = 256;
const MAGIC: u64 = u64::from_le_bytes(*b"TWZSEG\x01\0");

/// What the segment begins with. Zeros at first; all of it is atomics, so that others may write at any moment.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Shared {
    magic: AtomicU64,
    /// Bytes in all: another version's segment has another size.
    len_bytes: AtomicU64,
    /// PID namespace that process numbers count in.
    namespace: AtomicU64,
    poisoned: AtomicU32,
    /// [`crate::persistence::Kind`] of all.
    kind: AtomicU32,
    owners: [OwnerSlot; OWNERS_MAX],
    pub(crate) log: LogShared,
}

#[repr(C)]
#[derive(Debug)]
struct OwnerSlot {
    /// The owner's word; 0: free.
    word: AtomicU64,
    start: AtomicU64,
    pid: AtomicU64,
    /// Which object it has for itself alone, as [`crate::presence`] numbers them; 0: none.
    alone_with: AtomicU64,
}

/// After what begins the segment: the ring of the log, then what the programming model keeps there.
const RING_OFFSET: usize = size_of::<Shared>().next_multiple_of(4096);
const COORDINATION_OFFSET: usize = RING_OFFSET + RING_BYTES as usize;
const LEN_BYTES: usize = COORDINATION_OFFSET + COORDINATION_BYTES as usize;

/// The segment, mapped.
#[derive(Debug)]
pub(crate) struct Segment {
    start: *mut u8,
    path: PathBuf,
    /// Holds a share of its lock, so that nobody sweeps it away.
    file: File,
    /// Holds a share of the users' lock.
    users: File,
    /// The process that joined: what is forked off it must not let go of its lock.
    pid: u32,
}

// SAFETY: the memory is reached through atomics alone.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// Whoever holds it opens or closes the store.
#[derive(Debug)]
pub(crate) struct Gate {
    file: File,
}

impl Drop for Gate {
    fn drop(&mut self) {
        // As in [`Segment`]'s drop.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

impl Gate {
    /// Waits for the gate, [`GATE_PATIENCE`] at most: whoever may read the store can hold it.
    pub(crate) fn enter(disk: &Disk) -> Result<Self, StoreError> {
        Self::enter_within(disk, GATE_PATIENCE)
    }

    fn enter_within(disk: &Disk, patience: Duration) -> Result<Self, StoreError> {
        let file = disk
            .open_file(GATE, OFlags::RDONLY)
            .map_err(StoreError::io("opening", &disk.path().join(GATE)))?;
        let since = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) if since.elapsed() < patience => thread::sleep(POLL),
                Err(Errno::WOULDBLOCK) => {
                    return Err(StoreError::InUse {
                        why: "by a process that has been opening or closing it, or held its file `lock`, for a minute",
                    });
                }
                Err(error) => return Err(StoreError::io("locking", &disk.path().join(GATE))(error)),
            }
        }
    }
}

/// How one has joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Joined {
    /// Nobody else has the store open.
    First,
    /// Others have.
    After,
}

impl Segment {
    /// Joins those who have the store open.
    pub(crate) fn join(_gate: &Gate, disk: &Disk, uuid: [u8; 16]) -> Result<(Self, Joined), StoreError> {
        let users_path = disk.path().join(USERS);
        let users = disk.open_file(USERS, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| match error
            .kind()
        {
            io::ErrorKind::NotFound => StoreError::Damaged { what: "its folder `objects` is gone" },
            _ => StoreError::io("opening", &users_path)(error),
        })?;
        let joined = match flock(&users, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Joined::First,
            Err(Errno::WOULDBLOCK) => Joined::After,
            Err(error) => return Err(StoreError::io("locking", &users_path)(error)),
        };
        // Not atomic, but nobody else can ask for it without the gate.
        flock(&users, FlockOperation::NonBlockingLockShared)
            .map_err(StoreError::io("locking", &users_path))?;
        let path = path_for(disk, uuid).map_err(StoreError::io("looking at", disk.path()))?;
        let mapped = match joined {
            Joined::First => make(disk, &path),
            Joined::After => find(&path),
        };
        let (start, file) = mapped.map_err(|error| match joined {
            Joined::First => StoreError::io("making", &path)(error),
            Joined::After => StoreError::InUse { why: "its coordination segment can't be reached: by a process of another user, container or version" },
        })?;
        let segment = Self { start, path, file, users, pid: std::process::id() };
        let shared = segment.shared();
        match joined {
            Joined::First => {
                shared.magic.store(MAGIC, Ordering::Relaxed);
                shared.len_bytes.store(LEN_BYTES as u64, Ordering::Relaxed);
                shared.namespace.store(process::namespace(), Ordering::Relaxed);
            }
            Joined::After => {
                if shared.magic.load(Ordering::Relaxed) != MAGIC
                    || shared.len_bytes.load(Ordering::Relaxed) != LEN_BYTES as u64
                {
                    return Err(StoreError::InUse { why: "by another version of this library" });
                }
                if shared.namespace.load(Ordering::Relaxed) != process::namespace() {
                    return Err(StoreError::InUse { why: "by a process of another PID namespace" });
                }
                if !shared.owners.iter().any(OwnerSlot::lives) {
                    return Err(StoreError::InUse {
                        why: "by a process that doesn't share /dev/shm with this one, or that is ending",
                    });
                }
            }
        }
        Ok((segment, joined))
    }

    pub(crate) fn shared(&self) -> &Shared {
        // SAFETY: the mapping is as long as a `Shared`, lives as long as `self`, and every bit pattern is one: atomics all.
        unsafe { &*self.start.cast::<Shared>() }
    }

    /// Copies words into the ring. The append lock is held, and the place is free.
    pub(crate) fn write_ring(&self, position: u64, words: &[u64]) {
        for (at, &word) in (position..).step_by(8).zip(words) {
            // SAFETY: within the mapping.
            let place = unsafe { self.start.add(RING_OFFSET + (at % RING_BYTES) as usize) };
            // SAFETY: a word of the ring, aligned; atomics alone write it.
            let place = unsafe { &*place.cast::<AtomicU64>() };
            place.store(word, Ordering::Relaxed);
        }
    }

    /// The ring's bytes from `position` on, up to its end at most. The log's writer has its lock, and these bytes are logged and not
    /// yet synced: nobody writes them before that.
    pub(crate) fn ring(&self, position: u64, len_bytes: u64) -> &[u8] {
        let from = position % RING_BYTES;
        assert!(from + len_bytes <= RING_BYTES, "the caller stops at the ring's end");
        // SAFETY: within the mapping.
        let start = unsafe { self.start.add(RING_OFFSET + from as usize) };
        // SAFETY: as many bytes as were just checked; nobody writes them while the caller holds the lock, as documented, and
        // the borrow ends before.
        unsafe { std::slice::from_raw_parts(start, len_bytes as usize) }
    }

    /// Where the programming model's part begins. Its provenance is exposed.
    pub(crate) fn coordination(&self) -> u64 {
        // SAFETY: within the mapping.
        unsafe { self.start.add(COORDINATION_OFFSET) }.expose_provenance() as u64
    }

    /// The words of that part.
    pub(crate) fn coordination_words(&self) -> &[AtomicU64] {
        // SAFETY: within the mapping.
        let start = unsafe { self.start.add(COORDINATION_OFFSET) };
        // SAFETY: the last so many bytes of the mapping, which lives as long as `self`, from a page's start on; atomics alone write them.
        unsafe { std::slice::from_raw_parts(start.cast(), COORDINATION_BYTES as usize / 8) }
    }

    /// Enters this process among the owners; gives its word. The gate is held.
    pub(crate) fn enroll(&self) -> Result<u64, StoreError> {
        let slot = self.shared().owners.iter().find(|slot| slot.word.load(Ordering::Acquire) == 0);
        let slot = slot.ok_or(StoreError::InUse { why: "by as many processes as there can be" })?;
        let me = Process::me();
        slot.pid.store(u64::from(me.pid), Ordering::Relaxed);
        slot.start.store(me.start, Ordering::Relaxed);
        slot.alone_with.store(0, Ordering::Relaxed);
        let random = process::random_word().map_err(StoreError::io("reading", Path::new("/dev/urandom")))?;
        let word = (random & !1).max(2);
        slot.word.store(word, Ordering::Release);
        Ok(word)
    }

    /// Notes which object an owner has for itself alone; 0: none.
    pub(crate) fn set_alone_with(&self, word: u64, object: u64) {
        if let Some(slot) = self.shared().owners.iter().find(|slot| slot.word.load(Ordering::Relaxed) == word)
        {
            slot.alone_with.store(object, Ordering::SeqCst);
        }
    }

    /// Waits for owners other than `word` that had an object for themselves alone, and that are dying: the host has taken their locks back, but they aren't gone,
    /// and what they had committed can be put in place only then.
    pub(crate) fn outlive_dying(&self, word: u64, object: u64) -> Result<(), Error> {
        let is_dying = |slot: &OwnerSlot| {
            slot.alone_with.load(Ordering::SeqCst) == object
                && slot.word.load(Ordering::Acquire) != word
                && slot.lives()
        };
        let since = Instant::now();
        while self.shared().owners.iter().any(is_dying) {
            if since.elapsed() > DYING_PATIENCE {
                return Err(Error::Busy);
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Takes an owner off the list.
    pub(crate) fn leave(&self, word: u64) {
        if let Some(slot) = self.shared().owners.iter().find(|slot| slot.word.load(Ordering::Relaxed) == word)
        {
            slot.word.store(0, Ordering::Release);
        }
    }

    /// True if nobody has taken the owner off the list.
    pub(crate) fn is_listed(&self, word: u64) -> bool {
        word != 0 && self.shared().owners.iter().any(|slot| slot.word.load(Ordering::Acquire) == word)
    }

    /// Owners on the list that won't act any more.
    pub(crate) fn dead(&self) -> Vec<u64> {
        let words = self.shared().owners.iter().filter(|slot| !slot.lives());
        words.map(|slot| slot.word.load(Ordering::Acquire)).filter(|&word| word != 0).collect()
    }

    /// True while the owner may act.
    pub(crate) fn is_alive(&self, word: u64) -> bool {
        self.shared().owners.iter().any(|slot| slot.word.load(Ordering::Acquire) == word && slot.lives())
    }

    /// True if nobody else has the store open. Nobody can come while the gate is held.
    pub(crate) fn is_alone(&self, _gate: &Gate) -> bool {
        // Where it fails, the old share may be lost: the segment is about to go anyway.
        flock(&self.users, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    /// True if nobody else has the store open at this moment. Our own share stays.
    pub(crate) fn nobody_else(&self, gate: &Gate) -> bool {
        let alone = self.is_alone(gate);
        // Can't fail for long: nobody can have it alone who is not in the gate.
        let _ = flock(&self.users, FlockOperation::LockShared);
        alone
    }

    /// Removes the segment's name.
    pub(crate) fn remove(&self) {
        // What remains is replaced by the next one who opens the store.
        let _ = std::fs::remove_file(&self.path);
    }

    /// How stores become durable, in all processes alike. The first one says.
    pub(crate) fn agree_on(&self, kind: u32, joined: Joined) -> u32 {
        if joined == Joined::First {
            self.shared().kind.store(kind, Ordering::Relaxed);
        }
        self.shared().kind.load(Ordering::Relaxed)
    }

    /// True after a failed sync: what is on the disk is not known, and nothing more is written.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.shared().poisoned.load(Ordering::Acquire) != 0
    }

    /// Lets nobody write any more.
    pub(crate) fn poison(&self) {
        self.shared().poisoned.store(1, Ordering::Release);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if std::process::id() == self.pid {
            // Closing isn't enough: a child that another thread forked and that hasn't yet called exec has the file too.
            let _ = flock(&self.users, FlockOperation::Unlock);
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
        // SAFETY: our own mapping; references into it borrowed `self`.
        let _ = unsafe { munmap(self.start.cast(), LEN_BYTES) };
    }
}

impl OwnerSlot {
    fn lives(&self) -> bool {
        let pid = self.pid.load(Ordering::Relaxed) as u32;
        self.word.load(Ordering::Acquire) != 0
            && Process { pid, start: self.start.load(Ordering::Relaxed) }.is_alive()
    }
}

/// Named after the store and its directory: a copy of a store has the same UUID, and both may be open.
fn path_for(disk: &Disk, uuid: [u8; 16]) -> io::Result<PathBuf> {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        return Ok(disk.path().join("coordination"));
    }
    let directory = rustix::fs::fstat(disk.root())?;
    let (prefix, uuid) = (sweep::PREFIX, u128::from_be_bytes(uuid));
    Ok(shm.join(format!("{prefix}{uuid:032x}-{:x}-{:x}", directory.st_dev, directory.st_ino)))
}

/// A new segment of zeros, that those may use who may use the store.
fn make(disk: &Disk, path: &Path) -> io::Result<(*mut u8, File)> {
    let _alone = sweep::dead_segments(path);
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file: File = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into();
    let directory = std::fs::metadata(disk.path())?;
    if directory.mode() & 0o020 != 0 {
        match std::os::unix::fs::fchown(&file, None, Some(directory.gid())) {
            Ok(()) => rustix::fs::fchmod(&file, Mode::from_raw_mode(0o660))?,
            // Not a group of this user's, so it remains his alone.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    flock(&file, FlockOperation::NonBlockingLockShared)?;
    file.set_len(LEN_BYTES as u64)?;
    // A store to memory that can't be had would stop the process.
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, LEN_BYTES as u64)?;
    Ok((map(&file)?, file))
}

fn find(path: &Path) -> io::Result<(*mut u8, File)> {
    let file: File =
        rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?.into();
    if file.metadata()?.len() != LEN_BYTES as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    flock(&file, FlockOperation::NonBlockingLockShared)?;
    Ok((map(&file)?, file))
}

fn map(file: &File) -> io::Result<*mut u8> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping where the host likes it.
    let start = unsafe { mmap(std::ptr::null_mut(), LEN_BYTES, protection, MapFlags::SHARED, file, 0) }?;
    start.expose_provenance();
    Ok(start.cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_the_gate_for_good_is_not_waited_for_for_ever() {
        let place = tempfile::tempdir().expect("there is room");
        let disk = Disk::open(place.path(), None).expect("there");
        // Reading is enough.
        let path = place.path().join(GATE);
        std::fs::write(&path, b"").expect("ours");
        let other = File::open(&path).expect("readable");
        flock(&other, FlockOperation::LockShared).expect("free");
        let patience = Duration::from_millis(30);
        assert!(matches!(Gate::enter_within(&disk, patience), Err(StoreError::InUse { .. })));
        drop(other);
        Gate::enter_within(&disk, patience).expect("free again");
    }
}
