//! Opening and closing a store's directory.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use rustix::fs::OFlags;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::fork::Birth;
use crate::hosted::{Base, HostedBackend};
use crate::making;
use crate::medium::{self, Medium};
use crate::objects;
use crate::options::{Durability, Mode, Options};
use crate::persistence::{Kind, Persistence};
use crate::presence::Presence;
use crate::process;
use crate::recover::{self, Replayed};
use crate::room::Room;
use crate::segment::{GATE, Gate, Joined, Segment};
use crate::sigbus;
use crate::superblock::{self, Superblock};

impl HostedBackend {
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let disk = Disk::open(path, options.observer.clone()).map_err(not_a_directory("opening", path))?;
        let medium = medium::look(disk.root())?;
        // Before the gate: what is no store has none. Without it, another program may be marking the store at this moment.
        match read_superblock(&disk, options.mode) {
            Err(StoreError::Damaged { .. }) if disk.exists(GATE).is_ok_and(|exists| exists) => {}
            found => drop(found?),
        }
        making::complete(&disk, options.mode)?;
        let gate = Gate::enter(&disk)?;
        let mut block = read_superblock(&disk, options.mode)?;
        let (segment, joined) = Segment::join(&gate, &disk, block.uuid)?;
        let kind = agree(&segment, joined, options, kind(&disk, options, &block, medium)?)?;
        let mut replayed = Replayed::default();
        if joined == Joined::First {
            prepare(&disk, options, &mut block, kind)?;
        }
        let persistence = match (kind, joined) {
            (Kind::Log, Joined::After) => {
                Persistence::Log(Box::new(recover::attach_log(&disk, &block, options.mode)?))
            }
            (Kind::Log, Joined::First) => {
                let (log, found) = recover::open_log(&disk, &segment, &block, options)?;
                replayed = found;
                Persistence::Log(Box::new(log))
            }
            (other, _) => Persistence::stores(other, options.observer.as_deref()),
        };
        if let Some(number) = options.first_slot {
            twizzler_slots::start_at(number);
        }
        sigbus::explain();
        let birth = Birth::new().map_err(StoreError::io("mapping memory for", path))?;
        let owner = segment.enroll()?;
        let presence = Presence::new(&disk);
        let backend = Self {
            base: Arc::new(Base { disk, segment, owner, persistence }),
            background: Default::default(),
            mode: options.mode,
            mapped: Default::default(),
            presence,
            tables: Default::default(),
            birth,
            unpublished: Default::default(),
            room: Room::look(),
            replayed,
            left: Default::default(),
        };
        if options.mode == Mode::Write {
            if joined == Joined::First {
                recover::find_place_for_new(&backend.base.disk, true)?;
                let cleaned = objects::remove_made_by(&backend.base.disk, |_| true);
                cleaned.map_err(StoreError::io("cleaning up", path))?;
            }
            for dead in backend.base.segment.dead() {
                backend.bury(dead)?;
            }
        }
        drop(gate);
        Ok(backend)
    }
}

pub(crate) fn not_a_directory(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path: path.to_owned() },
        io::ErrorKind::NotADirectory => StoreError::NotADirectory { path: path.to_owned() },
        _ => StoreError::io(what, path)(error),
    }
}

pub(crate) fn read_superblock(disk: &Disk, mode: Mode) -> Result<Superblock, StoreError> {
    let path = disk.path().join(superblock::FILE);
    let mut bytes = Vec::new();
    let file = disk.open_file(superblock::FILE, OFlags::RDONLY).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => making::without_description(disk),
        _ => StoreError::io("opening", &path)(error),
    })?;
    file.take(4096).read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
    Superblock::parse(&bytes, mode)
}

/// How stores to this store's objects are to become durable, as it was asked for.
fn kind(disk: &Disk, options: &Options, block: &Superblock, medium: Medium) -> Result<Kind, StoreError> {
    let has = block.durability();
    if options.durability == Some(Durability::PowerCut)
        && has != Durability::PowerCut
        && !options.persistent_memory
    {
        return Err(StoreError::Durability { store: has, asked: Durability::PowerCut });
    }
    if options.persistent_memory {
        return Ok(Kind::Assumed);
    }
    if options.durability.unwrap_or(has) == Durability::ProcessKill {
        return Ok(Kind::Kept);
    }
    let file = disk.open_file(superblock::FILE, OFlags::RDWR);
    let told = options.observer.as_ref().and_then(|observer| observer.is_direct());
    if told.unwrap_or_else(|| file.is_ok_and(|file| medium::is_direct(&file))) {
        return Ok(Kind::Direct);
    }
    if medium == Medium::Memory && options.observer.is_none() {
        return Err(StoreError::Unsuitable {
            what: "it lies in main memory, which a power cut clears; Durability::ProcessKill is what it can do",
        });
    }
    Ok(Kind::Log)
}

/// All who have the store open do the same.
fn agree(segment: &Segment, joined: Joined, options: &Options, wanted: Kind) -> Result<Kind, StoreError> {
    let agreed = segment.agree_on(wanted as u32, joined);
    let agreed =
        Kind::of_number(agreed).ok_or(StoreError::InUse { why: "by another version of this library" })?;
    if agreed != wanted && options.durability.is_some() {
        let name =
            |kind: Kind| if kind.is_durable() { Durability::PowerCut } else { Durability::ProcessKill };
        return Err(StoreError::Durability { store: name(agreed), asked: name(wanted) });
    }
    Ok(agreed)
}

/// What the first one who opens the store does before anyone works with it.
fn prepare(disk: &Disk, options: &Options, block: &mut Superblock, kind: Kind) -> Result<(), StoreError> {
    let boot = process::boot();
    if block.open_in != [0; 16] && block.open_in != boot && !options.salvage {
        return Err(StoreError::Lost);
    }
    if options.mode == Mode::Read || kind.is_durable() {
        return Ok(());
    }
    block.set_durability(Durability::ProcessKill);
    block.open_in = boot;
    disk.overwrite(superblock::FILE, &block.sealed()).map_err(StoreError::io("marking", disk.path()))
}

impl Drop for HostedBackend {
    fn drop(&mut self) {
        if self.birth.is_forked() {
            // The parent goes on with all of it.
            return;
        }
        // Where this fails, the store counts as not closed in order; whoever wants to know holds the other end.
        self.background.end();
        self.presence.leave();
        let left = leave(self);
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
    }
}

fn leave(backend: &HostedBackend) -> Result<(), StoreError> {
    let gate = Gate::enter(&backend.base.disk)?;
    let is_last = backend.base.segment.is_alone(&gate);
    if is_last && backend.mode == Mode::Write && !backend.base.segment.is_poisoned() {
        close(backend)?;
    }
    backend.base.segment.leave(backend.base.owner);
    if is_last {
        backend.base.segment.remove();
    }
    Ok(())
}

/// The last one puts everything on the disk.
fn close(backend: &HostedBackend) -> Result<(), StoreError> {
    for dead in backend.base.segment.dead() {
        backend.bury(dead)?;
    }
    if let Some(log) = backend.base.the_log() {
        return Ok(log.close(backend.base.who())?);
    }
    if backend.base.persistence.syncs_names() {
        return Ok(());
    }
    let path = backend.base.disk.path();
    backend.base.disk.sync_all().map_err(StoreError::io("syncing", path))?;
    let mut block = read_superblock(&backend.base.disk, backend.mode)?;
    block.open_in = [0; 16];
    backend.base.disk.overwrite(superblock::FILE, &block.sealed()).map_err(StoreError::io("marking", path))
}
