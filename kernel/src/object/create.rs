//! New objects.

use alloc::sync::Arc;

use twizzler_abi::call::CreateSpec;
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::Metadata;
use twizzler_abi::rights::{ObjectFlags, Rights};
use twizzler_abi::{Error, Life, ObjId};

use super::budget::{OBJECT_BYTES, USERS};
use super::registry::OPENING;
use super::space::{self, Space};
use super::{Object, nvm, registry, system};
use crate::machine::random;

/// Makes the object that a call asks for.
///
/// # Errors
/// [`Error::InvalidArgument`], [`Error::NotSupported`] for kinds that are not built, [`Error::Exists`], no memory or NVM.
pub(crate) fn create(spec: &CreateSpec) -> Result<Arc<Object>, Error> {
    let flags = ObjectFlags::checked(spec.flags)?;
    let default_rights = Rights::granted(spec.default_rights)?;
    if flags.intersects(ObjectFlags::VERSIONED | ObjectFlags::IMMUTABLE) {
        return Err(Error::NotSupported);
    }
    let kinds = ObjectFlags::VIEW | ObjectFlags::LARGE | ObjectFlags::PERSISTENT;
    if flags.contains(ObjectFlags::THREAD) || flags.contains(kinds) {
        return Err(Error::InvalidArgument);
    }
    let nonce = if spec.nonce == [0; 16] { nonce() } else { spec.nonce };
    let inputs = IdInputs { nonce, owner: spec.owner, flags, default_rights };
    match flags.life() {
        Life::Volatile => {
            let metadata = Metadata::new(&inputs, spec.fingerprint);
            make_volatile(metadata.id, inputs, &metadata)
        }
        Life::Persistent => make_persistent(inputs, spec.fingerprint),
    }
}

/// Makes a volatile object of the kernel's own.
///
/// # Errors
/// No memory.
pub(crate) fn volatile(flags: ObjectFlags, default_rights: Rights) -> Result<Arc<Object>, Error> {
    let inputs = IdInputs { nonce: nonce(), owner: ObjId::NONE, flags, default_rights };
    let metadata = Metadata::new(&inputs, 0);
    make_volatile(metadata.id, inputs, &metadata)
}

/// Makes a volatile object under an ID that everyone knows beforehand. Its metadata doesn't commit to it.
///
/// # Errors
/// No memory.
pub(crate) fn published(id: ObjId, default_rights: Rights) -> Result<Arc<Object>, Error> {
    let inputs = IdInputs { nonce: [0; 16], owner: ObjId::NONE, flags: ObjectFlags::empty(), default_rights };
    let metadata = Metadata { id, ..Metadata::new(&inputs, 0) }.sealed();
    make_volatile(id, inputs, &metadata)
}

fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    random::fill(&mut nonce);
    nonce
}

fn make_volatile(id: ObjId, inputs: IdInputs, metadata: &Metadata) -> Result<Arc<Object>, Error> {
    let charge = USERS.hold(OBJECT_BYTES)?;
    let space = space::volatile(metadata)?;
    let object = Arc::new(Object::new(id, inputs, inputs.flags.size_class(), space, charge));
    registry::enter(object.clone()).inspect_err(|_| {
        space.destroy_some(u64::MAX);
    })?;
    system::add(system::Counter::ObjectsVolatile, 1);
    Ok(object)
}

fn make_persistent(inputs: IdInputs, fingerprint: u64) -> Result<Arc<Object>, Error> {
    let _opening = OPENING.lock();
    let charge = registry::charge()?;
    let (id, root) = nvm::create(&inputs, fingerprint)?;
    let object =
        Arc::new(Object::new(id, inputs, inputs.flags.size_class(), Space::Persistent(root), charge));
    registry::enter(object.clone()).inspect_err(|_| {
        // It can't be used, and nobody knows of it. Should that fail too, it stays as an object nobody uses.
        let _ = nvm::unlink(id).map(|space| space.destroy_some(u64::MAX));
    })?;
    Ok(object)
}
