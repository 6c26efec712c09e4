//! Calls on objects.

use twizzler_abi::call::{ControlOp, CreateSpec, StatOp};
use twizzler_abi::{Error, ObjId};
use zerocopy::{FromZeros, IntoBytes};

use super::{DONE, Done};
use crate::machine::user;
use crate::object::stat::Usage;
use crate::object::{create, delete as deletion, garbage, nvm, registry, stat as description, system};

/// After what may have taken or given back memory, its gauges are as good as new.
fn done() -> Result<Done, Error> {
    system::refresh();
    DONE
}

pub(super) fn create(spec_at: u64, id_at: u64) -> Result<Done, Error> {
    let mut spec = CreateSpec::new_zeroed();
    user::copy_in(spec.as_mut_bytes(), spec_at)?;
    let object = create::create(&spec)?;
    if let Err(error) = user::copy_out(id_at, object.id.as_bytes()) {
        // Nobody knows it yet.
        deletion::delete(&object)?;
        return Err(error);
    }
    done()
}

pub(super) fn delete(id: ObjId) -> Result<Done, Error> {
    deletion::by_id(id)?;
    if garbage::is_left(id) { Ok(Done::Again) } else { done() }
}

pub(super) fn stat(op: u64, id: ObjId, out: u64) -> Result<Done, Error> {
    let stat = match StatOp::try_from(op)? {
        StatOp::Object => description::object(id, Usage::NotCounted)?,
        StatOp::Usage => description::object(id, Usage::Counted)?,
        StatOp::NextPersistent => description::next_persistent(id)?,
        StatOp::NextVolatile => description::next_volatile(id)?,
    };
    user::copy_out(out, stat.as_bytes())?;
    DONE
}

pub(super) fn control(op: u64, id: ObjId, a: u64, b: u64) -> Result<Done, Error> {
    match ControlOp::try_from(op)? {
        ControlOp::Nothing => return DONE,
        ControlOp::Populate => {
            if !registry::find(id)?.populate(a, b)? {
                return Ok(Done::Again);
            }
        }
        ControlOp::Discard => {
            if !registry::find(id)?.discard(a, b)? {
                return Ok(Done::Again);
            }
        }
        ControlOp::Forbid => registry::find(id)?.forbid(a, b)?,
        ControlOp::SetType => registry::find(id)?.set_type(a, b)?,
        ControlOp::SetNamesRoot => nvm::set_names_root(&*registry::find(id)?)?,
        ControlOp::Promote => registry::find(id)?.promote()?,
    }
    done()
}
