//! Deleting objects.

use alloc::sync::Arc;

use twizzler_abi::{Error, Life, ObjId, Rights};

use super::registry::OPENING;
use super::space::Space;
use super::{Object, garbage, nvm, registry, system};

/// Deletes an object that a caller names. When it returns, the object is gone for everyone; while [`garbage`] has something
/// left of it, whoever calls again goes on with that.
///
/// One that is too damaged to be opened may be deleted by anyone: what it grants can't be known.
///
/// # Errors
/// [`Error::NoSuchObject`], [`Error::AccessDenied`], [`Error::Busy`].
pub(crate) fn by_id(id: ObjId) -> Result<(), Error> {
    match registry::find(id) {
        Ok(object) => {
            object.check(Rights::DELETE)?;
            delete(&object)
        }
        Err(Error::Damaged | Error::Unreadable | Error::NotSupported) => {
            let _opening = OPENING.lock();
            // Deleted and made anew meanwhile, it would be in use.
            if registry::open(id).is_some() {
                return Err(Error::Busy);
            }
            garbage::free(id, nvm::unlink(id)?);
            Ok(())
        }
        Err(Error::NoSuchObject) => garbage::go_on(id),
        Err(error) => Err(error),
    }
}

/// Deletes an object. [`garbage`] may have something left of it.
///
/// # Errors
/// [`Error::NoSuchObject`], [`Error::Busy`].
pub(crate) fn delete(object: &Arc<Object>) -> Result<(), Error> {
    let opening = (object.flags().life() == Life::Persistent).then(|| OPENING.lock());
    let mut state = object.state.write();
    state.space.check_alive()?;
    if state.pins != 0 {
        return Err(Error::Busy);
    }
    let mappings = state.unmap_all(object);
    let space = core::mem::replace(&mut state.space, Space::Gone);
    let upper = core::mem::take(&mut state.upper);
    drop(state);
    // No CPU reaches the tree any more, and nobody will map it again: it is gone.
    let unlinked = match space {
        Space::Volatile(_) => {
            system::subtract(system::Counter::ObjectsVolatile, 1);
            Ok(space)
        }
        Space::Persistent(_) => nvm::unlink(object.id),
        Space::Gone => Err(Error::NoSuchObject),
    };
    let listed = registry::leave(object.id);
    drop(opening);
    drop((mappings, upper, listed));
    garbage::free(object.id, unlinked?);
    Ok(())
}
