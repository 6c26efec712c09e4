//! Named objects, as commands use them.

use alloc::format;
use alloc::vec::Vec;

use twizzler_abi::{Error, ObjId};
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::{Access, Backend, Guard, Object, OpenError, Stored, Tx};

use crate::complaint::Complaint;

/// The object of a name; none where nothing has it.
///
/// # Errors
/// That the name is a directory's, can't be one, or can't be looked up.
pub fn object_named<B: Backend>(guard: &Guard<'_, B>, name: &str) -> Result<Option<ObjId>, Complaint> {
    match Names::open(guard).and_then(|names| names.object(name)) {
        Ok(id) => Ok(Some(id)),
        Err(NameError::NoSuchName) => Ok(None),
        Err(error) => Err(Complaint::error(name, error)),
    }
}

/// Opens the `T` of that name for writing; none where nothing has the name.
///
/// # Errors
/// That the object is of another type, which the complaint names; otherwise as [`object_named`].
pub fn open_named<'s, T: Stored, B: Backend>(
    guard: &'s Guard<'s, B>,
    name: &str,
) -> Result<Option<Object<'s, T>>, Complaint> {
    let Some(id) = object_named(guard, name)? else { return Ok(None) };
    guard.open::<T>(id, Access::Write).map(Some).map_err(unopened(name))
}

/// The `T` of that name within a transaction, for writing; makes it where nothing has the name.
///
/// # Errors
/// As [`open_named`]; no room.
pub fn open_or_create_named<'s, T: Stored, B: Backend>(
    tx: &mut Tx<'s, B>,
    names: &Names<'s, B>,
    name: &str,
) -> Result<Object<'s, T>, Complaint> {
    let failed = |error: NameError| Complaint::error(name, error);
    match names.lookup_by(tx, name) {
        Ok(Entry::Object(id)) => tx.open::<T>(id, Access::Write).map_err(unopened(name)),
        Ok(Entry::Directory) => Err(failed(NameError::IsADirectory)),
        Err(NameError::NoSuchName) => names.create::<T>(tx, name).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn unopened(name: &str) -> impl FnOnce(OpenError) -> Complaint {
    move |error| match error {
        OpenError::WrongType { .. } => Complaint::of(name, format!("{error}; give another name")),
        error => Complaint::error(name, Error::from(error)),
    }
}

/// The content of a named file.
///
/// # Errors
/// That there is none, or it is no file, or memory doesn't suffice.
pub fn read_file<B: Backend>(guard: &Guard<'_, B>, name: &str) -> Result<Vec<u8>, Complaint> {
    let failed = |error: Error| Complaint::error(name, error);
    let id = object_named(guard, name)?.ok_or_else(|| Complaint::error(name, NameError::NoSuchName))?;
    if guard.stat(id).map_err(failed)?.fingerprint != 0 {
        return Err(Complaint::of(name, "an object of a type, not a file; `show` tells the type"));
    }
    let bytes = guard.content(guard.open_any(id, Access::Read).map_err(failed)?);
    let len = usize::try_from(bytes.len()).map_err(|_| failed(Error::OutOfMemory))?;
    let mut content = Vec::new();
    content.try_reserve_exact(len).map_err(|_| failed(Error::OutOfMemory))?;
    content.resize(len, 0);
    guard.read(bytes, 0, &mut content).map_err(failed)?;
    Ok(content)
}
