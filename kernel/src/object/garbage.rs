//! Trees of deleted objects, on the way to being free.
//!
//! An object is deleted by one store; freeing what a large one held takes long, and interrupts are off in the kernel. So
//! trees wait here and are freed in parts: by whoever makes the call again, or by a CPU without work. After a power cut
//! none of them is in use, because nothing durable refers to it.

use alloc::vec::Vec;

use twizzler_abi::{Error, ObjId};

use super::space::Space;
use crate::level;
use crate::machine::lock::Lock;

/// Tables that are freed at a stretch, each with its pages: a few hundred microseconds.
const TABLES: u64 = 32;

static TREES: Lock<Vec<(ObjId, Space)>, { level::GARBAGE }> = Lock::new(Vec::new());

/// Frees a part of the tree that a deleted object left; the rest waits.
pub(super) fn free(id: ObjId, space: Space) {
    if space.destroy_some(TABLES) {
        return;
    }
    let mut trees = TREES.lock();
    if trees.try_reserve(1).is_ok() {
        trees.push((id, space));
        return;
    }
    drop(trees);
    // Rather long than never.
    space.destroy_some(u64::MAX);
}

/// Whether a deleted object's tree waits.
pub(crate) fn is_left(id: ObjId) -> bool {
    TREES.lock().iter().any(|(other, _)| *other == id)
}

/// Goes on with the tree of an object.
///
/// # Errors
/// [`Error::NoSuchObject`] where none waits.
pub(super) fn go_on(id: ObjId) -> Result<(), Error> {
    let mut trees = TREES.lock();
    let place = trees.iter().position(|(other, _)| *other == id).ok_or(Error::NoSuchObject)?;
    let (id, space) = trees.swap_remove(place);
    drop(trees);
    free(id, space);
    Ok(())
}

/// Goes on with any, for a CPU without work. False: none waits.
pub(crate) fn tidy() -> bool {
    let last = TREES.lock().pop();
    last.map(|(id, space)| free(id, space)).is_some()
}
