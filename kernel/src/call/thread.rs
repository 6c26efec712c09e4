//! Calls on threads.

use twizzler_abi::call::{SpawnSpec, ThreadOp};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights};
use zerocopy::{FromZeros, IntoBytes};

use super::{Caller, DONE, Done, id};
use crate::machine::{entry, user};
use crate::object::registry;
use crate::thread::end::{self, Ending};
use crate::thread::{scheduler, spawn as spawning, upcall};

pub(super) fn spawn(caller: &Caller<'_>, spec_at: u64, id_at: u64) -> Result<Done, Error> {
    let mut spec = SpawnSpec::new_zeroed();
    user::copy_in(spec.as_mut_bytes(), spec_at)?;
    // Before the thread exists: it could not be taken back.
    user::copy_out(id_at, ObjId::NONE.as_bytes())?;
    let id = if spec.view.is_none() {
        spawning::spawn(&spec, &caller.thread.view.object)?
    } else {
        spawning::spawn(&spec, &registry::find(spec.view)?)?
    };
    user::copy_out(id_at, id.as_bytes())?;
    DONE
}

pub(super) fn control(caller: &mut Caller<'_>, [op, a, b, c]: [u64; 4]) -> Result<Done, Error> {
    match ThreadOp::try_from(op)? {
        ThreadOp::Exit => {
            end::end_current(caller.cpu, caller.thread, Ending::exit(a));
            return Ok(Done::Elsewhere);
        }
        ThreadOp::Yield => scheduler::give_way(caller.cpu),
        ThreadOp::SetHandler => upcall::set_handler(caller.thread, a, b)?,
        ThreadOp::UpcallReturn => {
            upcall::go_on(caller.cpu, caller.thread, caller.context, a)?;
            return Ok(Done::Elsewhere);
        }
        // If it is the caller itself, the scheduler sees to it on the way out.
        ThreadOp::Kill => kill(id(a, b))?,
        ThreadOp::SetPriority => {
            let priority = u32::try_from(c).ok().filter(|&priority| priority < twizzler_sched::PRIORITIES);
            scheduler::set_priority(&*scheduler::find(id(a, b))?, priority.ok_or(Error::InvalidArgument)?);
        }
        ThreadOp::SetFsBase => entry::set_fs_base(a)?,
        ThreadOp::SetGsBase => entry::set_gs_base(a)?,
    }
    DONE
}

/// Ends a thread, or all of a view.
fn kill(id: ObjId) -> Result<(), Error> {
    let object = registry::find(id)?;
    if !object.flags().contains(ObjectFlags::VIEW) {
        return end::kill(&scheduler::find(id)?);
    }
    object.check(Rights::WRITE)?;
    if let Some(view) = object.with_view(|view| view.clone())? {
        end::kill_all(&view);
    }
    Ok(())
}
