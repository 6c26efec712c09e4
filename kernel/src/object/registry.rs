//! The table of open objects, in the order of their IDs.
//!
//! IDs are hashes, so their first bits spread objects evenly over short lists, and lists in order make a table in order: the
//! next ID is found without looking at all. A persistent object that nobody uses any more stays open until room is
//! needed: [`OPEN_MAX`] of them, or less where memory runs out.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use twizzler_abi::{Error, Life, ObjId, SizeClass};

use super::budget::{Charge, OBJECT_BYTES, USERS};
use super::space::Space;
use super::{Object, nvm};
use crate::level;
use crate::machine::lock::{Lock, SharedLock};

static TABLE: SharedLock<Table, { level::REGISTRY }> =
    SharedLock::new(Table { lists: Vec::new(), len: 0, hand: 0 });

/// Persistent objects that are open, and how many may be before unused ones are closed.
static OPEN: AtomicUsize = AtomicUsize::new(0);
pub(crate) const OPEN_MAX: usize = 1024;
/// Objects that are closed at a time, and lists that are searched for them while memory is left.
const CLOSED_AT_ONCE: usize = 16;
const LISTS_AT_ONCE: usize = 64;

/// Open objects by the first bits of their IDs.
struct Table {
    /// A power of two of them, once there is an object.
    lists: Vec<Vec<Arc<Object>>>,
    len: usize,
    /// The list from which on unused objects are looked for.
    hand: usize,
}

impl Table {
    /// The list that an ID belongs to. There is one.
    const fn list_of(&self, id: ObjId) -> usize {
        let bits = self.lists.len().trailing_zeros();
        // In two steps, because all 64 bits may be too many for one.
        (id.hi >> 1 >> (63 - bits)) as usize
    }

    fn get(&self, id: ObjId) -> Option<&Arc<Object>> {
        self.lists.get(self.list_of(id))?.iter().find(|object| object.id == id)
    }

    fn enter(&mut self, object: Arc<Object>) -> Result<(), Error> {
        if self.get(object.id).is_some() {
            return Err(Error::Exists);
        }
        if self.len >= self.lists.len() {
            self.grow()?;
        }
        let list = self.list_of(object.id);
        let list = &mut self.lists[list];
        list.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        list.push(object);
        self.len += 1;
        Ok(())
    }

    /// Twice as many lists.
    fn grow(&mut self) -> Result<(), Error> {
        let mut lists = Vec::new();
        let wanted = (2 * self.lists.len()).max(64);
        lists.try_reserve_exact(wanted).map_err(|_| Error::OutOfMemory)?;
        lists.resize_with(wanted, Vec::new);
        let mut grown = Self { lists, len: 0, hand: 0 };
        for object in self.lists.iter().flatten() {
            grown.enter(object.clone())?;
        }
        *self = grown;
        Ok(())
    }

    fn leave(&mut self, id: ObjId) -> Option<Arc<Object>> {
        let list = self.list_of(id);
        let list = self.lists.get_mut(list)?;
        let place = list.iter().position(|object| object.id == id)?;
        self.len -= 1;
        Some(list.swap_remove(place))
    }
}

/// Held while a persistent object is opened, made or deleted.
pub(super) static OPENING: Lock<(), { level::OPENING }> = Lock::new(());

/// The object with this ID.
///
/// # Errors
/// [`Error::NoSuchObject`]; [`Error::Damaged`] and the like for a persistent one that fails its checks.
pub(crate) fn find(id: ObjId) -> Result<Arc<Object>, Error> {
    match open(id) {
        Some(object) => Ok(object),
        None => open_in_store(id),
    }
}

/// The object with this ID, if it is open.
pub(super) fn open(id: ObjId) -> Option<Arc<Object>> {
    TABLE.read().get(id).cloned()
}

fn open_in_store(id: ObjId) -> Result<Arc<Object>, Error> {
    let _opening = OPENING.lock();
    if let Some(object) = open(id) {
        return Ok(object);
    }
    let charge = charge()?;
    let opened = nvm::open(id)?;
    let made_as = opened.inputs.flags.size_class();
    if opened.inputs.flags.life() != Life::Persistent || ![made_as, SizeClass::Large].contains(&opened.class)
    {
        return Err(Error::Damaged);
    }
    let object =
        Arc::new(Object::new(id, opened.inputs, opened.class, Space::Persistent(opened.root), charge));
    enter(object.clone())?;
    Ok(object)
}

/// Persistent objects that are open.
pub(crate) fn open_persistent_len() -> usize {
    OPEN.load(Ordering::Relaxed)
}

/// The memory that an open persistent object takes. Unused ones are closed for it. Under [`OPENING`].
pub(super) fn charge() -> Result<Charge, Error> {
    if open_persistent_len() >= OPEN_MAX {
        close_unused(LISTS_AT_ONCE);
    }
    USERS.hold(OBJECT_BYTES).or_else(|_| {
        close_unused(usize::MAX);
        USERS.hold(OBJECT_BYTES)
    })
}

/// Closes some persistent objects that nobody uses, out of so many lists. Nobody can begin to: that takes the table.
fn close_unused(lists_max: usize) {
    let mut closed = [const { None }; CLOSED_AT_ONCE];
    let mut free = closed.iter_mut();
    let mut table = TABLE.write();
    let Table { lists, len, hand } = &mut *table;
    let unused =
        |object: &Arc<Object>| Arc::strong_count(object) == 1 && object.flags().life() == Life::Persistent;
    for _ in 0..lists.len().min(lists_max) {
        *hand = (*hand + 1) % lists.len();
        let list = &mut lists[*hand];
        while let Some(index) = list.iter().position(unused)
            && let Some(place) = free.next()
        {
            *place = Some(list.swap_remove(index));
            *len -= 1;
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
    }
    drop(table);
    // Their memory goes without the lock.
    drop(closed);
}

/// Makes an object known.
///
/// # Errors
/// [`Error::Exists`], [`Error::OutOfMemory`].
pub(super) fn enter(object: Arc<Object>) -> Result<(), Error> {
    let persistent = object.flags().life() == Life::Persistent;
    TABLE.write().enter(object)?;
    OPEN.fetch_add(usize::from(persistent), Ordering::Relaxed);
    Ok(())
}

/// Forgets an object.
pub(super) fn leave(id: ObjId) -> Option<Arc<Object>> {
    let object = TABLE.write().leave(id)?;
    OPEN.fetch_sub(usize::from(object.flags().life() == Life::Persistent), Ordering::Relaxed);
    Some(object)
}

/// The open volatile object with the least ID after `id`.
pub(super) fn next_volatile(id: ObjId) -> Option<Arc<Object>> {
    let table = TABLE.read();
    let lists = table.lists.get(table.list_of(id)..)?;
    let after = |object: &&Arc<Object>| object.id > id && object.flags().life() == Life::Volatile;
    lists.iter().find_map(|list| list.iter().filter(after).min_by_key(|object| object.id)).cloned()
}
