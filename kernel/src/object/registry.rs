//! The table of open objects.

use alloc::sync::Arc;

use hashbrown::DefaultHashBuilder;
use hashbrown::HashMap;
use spin::Once;
use twizzler_abi::{Error, Life, ObjId};

use super::budget::{OBJECT_BYTES, USERS};
use super::space::Space;
use super::{Object, nvm};
use crate::level;
use crate::machine::lock::{Lock, SharedLock};

type Table = HashMap<ObjId, Arc<Object>, DefaultHashBuilder>;

static TABLE: Once<SharedLock<Table, { level::REGISTRY }>> = Once::new();

/// Held while a persistent object is opened, made or deleted.
pub(super) static OPENING: Lock<(), { level::OPENING }> = Lock::new(());

fn table() -> &'static SharedLock<Table, { level::REGISTRY }> {
    TABLE.call_once(|| SharedLock::new(Table::default()))
}

/// The object with this ID.
///
/// # Errors
/// [`Error::NoSuchObject`]; [`Error::Damaged`] and the like for a persistent one that fails its checks.
pub(crate) fn find(id: ObjId) -> Result<Arc<Object>, Error> {
    match open(id) {
        Some(object) => Ok(object),
        None => open_persistent(id),
    }
}

/// The object with this ID, if it is open.
pub(super) fn open(id: ObjId) -> Option<Arc<Object>> {
    table().read().get(&id).cloned()
}

fn open_persistent(id: ObjId) -> Result<Arc<Object>, Error> {
    let _opening = OPENING.lock();
    if let Some(object) = open(id) {
        return Ok(object);
    }
    let charge = USERS.hold(OBJECT_BYTES)?;
    let opened = nvm::open(id)?;
    if opened.inputs.flags.life() != Life::Persistent || opened.class != opened.inputs.flags.size_class() {
        return Err(Error::Damaged);
    }
    let object = Arc::new(Object::new(id, opened.inputs, Space::Persistent(opened.root), charge));
    enter(object.clone())?;
    Ok(object)
}

/// Makes an object known.
///
/// # Errors
/// [`Error::Exists`], [`Error::OutOfMemory`].
pub(super) fn enter(object: Arc<Object>) -> Result<(), Error> {
    let mut table = table().write();
    if table.contains_key(&object.id) {
        return Err(Error::Exists);
    }
    table.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
    table.insert(object.id, object);
    Ok(())
}

/// Forgets an object.
pub(super) fn leave(id: ObjId) -> Option<Arc<Object>> {
    table().write().remove(&id)
}

/// The open volatile object with the least ID after `id`.
pub(super) fn next_volatile(id: ObjId) -> Option<Arc<Object>> {
    let table = table().read();
    let after = table.values().filter(|object| object.id > id && object.flags().life() == Life::Volatile);
    after.min_by_key(|object| object.id).cloned()
}
