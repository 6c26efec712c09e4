//! The persistent names, as commands see them.

use alloc::string::String;
use alloc::vec::Vec;

use twizzler_abi::{Error, ObjId};
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::types::Dump;
use twizzler_object::{Access, Guard, Tx};
use twizzler_rt::Rt;

/// The names, and the guard that they are used through.
#[derive(Clone, Copy)]
pub(super) struct Directory<'s> {
    guard: &'s Guard<'s, Rt>,
    names: Names<'s, Rt>,
}

impl core::fmt::Debug for Directory<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

/// People end directories with a slash.
fn clean(path: &str) -> &str {
    path.trim_end_matches('/')
}

impl<'s> Directory<'s> {
    /// Opens the names; makes them where there are none yet.
    pub(super) fn open(guard: &'s Guard<'s, Rt>) -> Result<Self, NameError> {
        Ok(Self { guard, names: Names::open(guard)? })
    }

    /// The object that holds the names.
    pub(super) fn id(&self) -> ObjId {
        self.guard.id_of(self.names.area())
    }

    /// What a path stands for.
    pub(super) fn lookup(&self, path: &str) -> Result<Entry, NameError> {
        self.names.lookup(clean(path))
    }

    /// The entries of a directory, by name.
    pub(super) fn list(&self, path: &str) -> Result<Vec<(String, Entry)>, NameError> {
        self.names.list(clean(path))
    }

    /// All that is below a directory, each directory before what is in it, by paths from there.
    pub(super) fn tree(&self, path: &str) -> Result<Vec<(String, Entry)>, NameError> {
        let _locked = self.names.lock()?;
        self.names.tree_by(&self.guard, clean(path))
    }

    /// Changes names, wholly or not at all.
    fn change<R>(
        &self,
        mut change: impl FnMut(&mut Tx<'s, Rt>, &Names<'s, Rt>) -> Result<R, NameError>,
    ) -> Result<R, NameError> {
        self.guard.transact(|tx| change(tx, &self.names))
    }

    /// Makes a directory.
    pub(super) fn make_directory(&self, path: &str) -> Result<(), NameError> {
        self.change(|tx, names| names.make_directory(tx, clean(path)))
    }

    /// Names an object.
    pub(super) fn bind(&self, path: &str, id: ObjId) -> Result<(), NameError> {
        self.change(|tx, names| names.bind(tx, path, id))
    }

    /// Renames.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), NameError> {
        self.change(|tx, names| names.rename(tx, clean(from), clean(to)))
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(&self, path: &str) -> Result<(), NameError> {
        self.change(|tx, names| names.remove_directory(tx, clean(path)))
    }

    /// Removes a name; its object too, where no other name is left.
    pub(super) fn remove(&self, path: &str, last: Last) -> Result<(), NameError> {
        self.change(|tx, names| take(tx, names, path, last))
    }

    /// Makes an empty file.
    pub(super) fn create(&self, path: &str) -> Result<ObjId, NameError> {
        self.change(|tx, names| {
            let area = names.create_any(tx, path)?;
            Ok(self.guard.id_of(area))
        })
    }

    /// Makes a file of these bytes; in place of the one that has the name, if there is one.
    pub(super) fn replace(&self, path: &str, old: Option<Last>, bytes: &[u8]) -> Result<(), NameError> {
        self.change(|tx, names| {
            if let Some(last) = old {
                take(tx, names, path, last)?;
            }
            let area = names.create_any(tx, path)?;
            tx.write_at(area, 0, bytes)?;
            Ok(tx.set_len_bytes(area, bytes.len() as u64)?)
        })
    }

    /// Writes to the end of a file.
    pub(super) fn append(&self, id: ObjId, bytes: &[u8]) -> Result<(), Error> {
        let area = self.guard.open_any(id, Access::Write)?;
        self.guard.transact(|tx| {
            tx.lock(area)?;
            let len = self.guard.len_bytes(area);
            tx.write_at(area, len, bytes)?;
            tx.set_len_bytes(area, len + bytes.len() as u64)
        })
    }

    /// The declared name of an object's type.
    pub(super) fn type_name(&self, id: ObjId) -> Option<String> {
        let area = self.guard.open_any(id, Access::Read).ok()?;
        Some(alloc::format!("{}", self.guard.type_name(area)))
    }

    /// The values in an object, and in what its pointers lead to within it: at most so many places. None: nothing describes its type.
    pub(super) fn dump(&self, id: ObjId, places_max: usize) -> Result<Option<Dump>, Error> {
        self.guard.dump(self.guard.open_any(id, Access::Read)?, places_max)
    }
}

/// Whether a name is the last of its object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Last {
    /// It is: the object goes with it.
    Yes,
    /// It is not.
    No,
}

fn take<'s>(tx: &mut Tx<'s, Rt>, names: &Names<'s, Rt>, path: &str, last: Last) -> Result<(), NameError> {
    match last {
        Last::Yes => names.delete(tx, path).map(drop),
        Last::No => names.unbind(tx, path).map(drop),
    }
}
