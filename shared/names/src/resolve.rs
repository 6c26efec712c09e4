//! Pointers to names.

use twizzler_abi::{Error, ObjId};
use twizzler_object::{Backend, Guard};

use crate::entry::Entry;
use crate::error::NameError;
use crate::names::Names;

/// The object that has a name: for [`twizzler_object::Space::resolve_names_by`]. Waits for nobody, so that pointers can be followed
/// wherever one is; a name that is being moved meanwhile may be found at neither place.
///
/// # Errors
/// [`Error::NoSuchName`] where nothing has the name, or a directory has; [`Error::Damaged`], and the system's own.
pub fn resolve<B: Backend>(guard: &Guard<'_, B>, name: &str) -> Result<ObjId, Error> {
    let found = Names::open(guard).and_then(|names| names.lookup_by(&guard, name));
    match found {
        Ok(Entry::Object(id)) => Ok(id),
        Err(NameError::System(error)) => Err(error),
        Ok(Entry::Directory) | Err(_) => Err(Error::NoSuchName),
    }
}
