//! The mounted store.

use core::mem::offset_of;

use spin::Once;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::id::IdInputs;
use twizzler_abi::system::System;
use twizzler_abi::{Error, Life, ObjId};
use twizzler_store::tree::Root;
use twizzler_store::{self as store, Access, FormatOptions, MountError, MountOptions, MountReport};

use super::registry::OPENING;
use super::space::Space;
use super::{Object, system};
use crate::level;
use crate::machine::lock::RawLock;
use crate::machine::start_info::Boot;
use crate::machine::{clock, random};
use crate::memory::nvm::Nvm;

type Store = store::Store<Nvm, RawLock<{ level::STORE }>>;
/// NVM frames of persistent objects.
pub(super) type NvmFrames = store::nvm::Nvm<Nvm, RawLock<{ level::STORE }>>;

static STORE: Once<Store> = Once::new();

/// Frames that are zeroed ahead each time that a CPU becomes idle.
const PREPARE_FRAMES: usize = 16;

fn mounted() -> Result<&'static Store, Error> {
    STORE.get().ok_or(Error::NoNvm)
}

/// Mounts the store of the machine's NVM; an all-zero one is formatted first. Whatever keeps it from being
/// mounted is logged and published, and the system goes on without it.
pub(crate) fn mount(boot: &'static Boot) {
    let error = match boot.nvm {
        None => Some(Error::NoNvm),
        Some(nvm) => match mount_or_format(nvm) {
            Ok(()) => None,
            Err(error) => {
                ::log::error!("nvm: {error}");
                Some(number(error))
            }
        },
    };
    system::set(offset_of!(System, nvm_error), error.map_or(0, |error| error as u64));
}

fn mount_or_format(nvm: Nvm) -> Result<(), MountError> {
    let start = clock::now_ns();
    let options = MountOptions { access: Access::ReadWrite, base: Some(nvm.base()) };
    let (store, report) = match Store::mount(nvm, &options) {
        Err(MountError::Unformatted) => {
            ::log::info!("nvm: empty: making a store");
            let mut uuid = [0; 16];
            random::fill(&mut uuid);
            Store::format(&nvm, &FormatOptions { uuid, base: nvm.base() })?;
            Store::mount(nvm, &options)?
        }
        mounted => mounted?,
    };
    let took = clock::now_ns() - start;
    tell(&report, took);
    let uuid = store.uuid();
    for (index, word) in uuid.chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(word.try_into().expect("chunks have 8 bytes"));
        system::set(offset_of!(System, store_uuid) + 8 * index, word);
    }
    for (offset, value) in [
        (offset_of!(System, nvm_bytes), report.counts.total * PAGE_BYTES),
        (offset_of!(System, mount_ns), took),
        (offset_of!(System, store_boots), report.boots),
    ] {
        system::set(offset, value);
    }
    publish_names_root(store.names_root());
    STORE.call_once(|| store);
    Ok(())
}

fn publish_names_root(id: ObjId) {
    system::set(offset_of!(System, names_root) + offset_of!(ObjId, hi), id.hi);
    system::set(offset_of!(System, names_root) + offset_of!(ObjId, lo), id.lo);
}

/// Makes an object the root of the persistent names.
///
/// # Errors
/// [`Error::WrongType`] for a volatile object; [`Error::Exists`] while another is the root and exists.
pub(crate) fn set_names_root(object: &Object) -> Result<(), Error> {
    if object.flags().life() != Life::Persistent {
        return Err(Error::WrongType);
    }
    let _opening = OPENING.lock();
    let store = mounted()?;
    let old = store.names_root();
    if old != object.id && !old.is_none() && store.root(old) != Err(store::Error::NoSuchObject) {
        return Err(Error::Exists);
    }
    store.set_names_root(object.id)?;
    publish_names_root(object.id);
    Ok(())
}

fn tell(report: &MountReport, took_ns: u64) {
    ::log::info!(
        "nvm: mounted in {} us: boot {}, {} objects, {} of {} frames free, {}",
        took_ns / 1000,
        report.boots,
        report.objects,
        report.counts.free,
        report.counts.total,
        if report.clean { "was shut down" } else { "was not shut down" }
    );
    if report.superblock_repaired || report.words_damaged != 0 {
        ::log::warn!(
            "nvm: repaired from second copies: superblock or {} directory words",
            report.words_damaged
        );
    }
    if report.words_lost != 0 {
        ::log::error!(
            "nvm: {} directory words are lost, and the objects that they led to",
            report.words_lost
        );
    }
    for quarantined in &report.quarantine {
        ::log::error!("nvm: object {} is in quarantine: {}", quarantined.id, quarantined.why);
    }
}

/// What a program is told.
fn number(error: MountError) -> Error {
    match error {
        MountError::NotOurs { .. } | MountError::Unformatted => Error::WrongType,
        MountError::TooSmall { .. } | MountError::Truncated { .. } => Error::OutOfRange,
        MountError::SuperblockDamaged | MountError::StateDamaged => Error::Damaged,
        MountError::BadBase { .. } | MountError::NeedsRelocation { .. } => Error::InvalidArgument,
        MountError::OutOfMemory => Error::OutOfMemory,
        _ => Error::NotSupported,
    }
}

pub(super) fn frames() -> Result<&'static NvmFrames, store::Error> {
    // Only objects of the store ask for it.
    STORE.get().map(Store::frames).ok_or(store::Error::NoSuchObject)
}

/// What there is of an object, verified. Without a store there is no such object.
pub(super) fn open(id: ObjId) -> Result<store::Opened, Error> {
    Ok(STORE.get().ok_or(Error::NoSuchObject)?.open(id)?)
}

/// Makes an object, and returns its ID and tree.
pub(super) fn create(inputs: &IdInputs, fingerprint: u64) -> Result<(ObjId, Root), Error> {
    let store = mounted()?;
    let id = store.create(inputs, fingerprint)?;
    Ok((id, store.root(id)?))
}

/// Deletes an object: durable on return. What is left of it is to be freed.
pub(super) fn unlink(id: ObjId) -> Result<Space, Error> {
    Ok(mounted()?.unlink(id)?.map_or(Space::Gone, Space::Persistent))
}

/// The root of an object's tree, made to reach `page`. Under the object's exclusive lock.
pub(super) fn extend(id: ObjId, page: u64) -> Result<Root, store::Error> {
    STORE.get().ok_or(store::Error::NoSuchObject)?.extend(id, page)
}

/// Makes an object a large one. Under the object's exclusive lock.
pub(super) fn promote(id: ObjId) -> Result<(), Error> {
    Ok(mounted()?.promote(id)?)
}

/// What is known of an object that can't be opened.
pub(super) fn stat(id: ObjId) -> Result<store::Stat, Error> {
    Ok(STORE.get().ok_or(Error::NoSuchObject)?.stat(id)?)
}

/// The object after `id`.
pub(super) fn next(id: ObjId) -> Result<ObjId, Error> {
    mounted()?.next_after(id)?.ok_or(Error::NoSuchObject)
}

/// Writes the store's gauges to the system object.
pub(super) fn refresh() {
    let Some(store) = STORE.get() else { return };
    system::set(offset_of!(System, nvm_free_bytes), store.counts().free * PAGE_BYTES);
    system::set(offset_of!(System, objects_persistent), store.objects());
    system::set(offset_of!(System, objects_quarantined), store.quarantined());
}

/// Does for the store what can be done ahead, for a CPU without work.
pub(crate) fn prepare() {
    if let Some(store) = STORE.get() {
        store.prepare(PREPARE_FRAMES);
    }
}

/// Notes in the store that all is well, before the power goes.
pub(crate) fn close() {
    if let Some(Err(error)) = STORE.get().map(Store::shutdown) {
        ::log::error!("nvm: {error}");
    }
}
