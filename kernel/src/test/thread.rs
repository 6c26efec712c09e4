//! Threads that never run: started, found, killed, and what they took given back.

use alloc::string::String;
use alloc::sync::Arc;
use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::{SpawnSpec, USUAL_RIGHTS};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::{ObjectFlags, Rights};
use twizzler_abi::thread::{FaultKind, Status, ThreadState};
use zerocopy::{FromZeros, IntoBytes};

use super::object::say;
use super::{Test, check};
use crate::machine::start_info::Boot;
use crate::object::{Object, create, delete, registry};
use crate::thread::{end, scheduler, spawn};

pub(super) const TESTS: &[Test] = &[
    Test { name: "thread_killed_before_it_ran", run: killed },
    Test { name: "thread_spec_is_checked", run: checked },
    Test { name: "thread_numbers_are_used_again", run: used_again },
    Test { name: "thread_all_of_a_view_are_killed", run: all_killed },
    Test { name: "thread_without_memory_is_an_error", run: without_memory },
];

fn view() -> Result<Arc<Object>, String> {
    create::volatile(ObjectFlags::VIEW, USUAL_RIGHTS).map_err(say)
}

/// Ready, but below all others: on the CPU that tests run on, nobody schedules.
fn spec() -> SpawnSpec {
    SpawnSpec { entry: 0x1000, stack_pointer: 0x2000, ..SpawnSpec::new_zeroed() }
}

fn state(object: &Object) -> Result<ThreadState, String> {
    let mut state = ThreadState::new_zeroed();
    object.read(BASE_OFFSET, state.as_mut_bytes()).map_err(say)?;
    Ok(state)
}

fn killed(_: &Boot) -> Result<(), String> {
    let view = view()?;
    let id = spawn::spawn(&spec(), &view).map_err(say)?;
    let object = registry::find(id).map_err(say)?;
    check!(state(&object)?.status == Status::Runnable as u64);
    check!(state(&object)?.id == id && state(&object)?.view == view.id);
    check!(delete::by_id(id) == Err(Error::Busy), "it lives");
    check!(delete::by_id(view.id) == Err(Error::Busy), "a thread lives in it");
    let thread = scheduler::find(id).map_err(say)?;
    scheduler::set_priority(&thread, 3);
    check!(state(&object)?.priority == 3);
    end::kill(&thread).map_err(say)?;
    check!(end::kill(&thread) == Err(Error::NoSuchObject));
    check!(scheduler::find(id).err() == Some(Error::NoSuchObject));
    let ended = state(&object)?;
    check!(ended.status == Status::Ended as u64);
    check!(ended.fault.kind == FaultKind::Killed as u32);
    check!(ended.registers.rip == 0x1000, "offset {}", offset_of!(ThreadState, registers));
    delete::by_id(id).map_err(say)?;
    delete::by_id(view.id).map_err(say)
}

fn checked(_: &Boot) -> Result<(), String> {
    let view = view()?;
    let bad = [
        SpawnSpec { entry: 1 << 47, ..spec() },
        SpawnSpec { stack_pointer: u64::MAX, ..spec() },
        SpawnSpec { fs_base: 1 << 63, ..spec() },
        SpawnSpec { priority: 32, ..spec() },
        SpawnSpec { reserved: 1, ..spec() },
    ];
    for spec in bad {
        check!(spawn::spawn(&spec, &view) == Err(Error::InvalidArgument));
    }
    let other = create::volatile(ObjectFlags::empty(), USUAL_RIGHTS).map_err(say)?;
    check!(spawn::spawn(&spec(), &other) == Err(Error::WrongType));
    delete::delete(&other).map_err(say)?;
    let fixed = create::volatile(ObjectFlags::VIEW, Rights::READ | Rights::DELETE).map_err(say)?;
    check!(spawn::spawn(&spec(), &fixed) == Err(Error::AccessDenied));
    delete::delete(&fixed).map_err(say)?;
    delete::delete(&view).map_err(say)
}

fn used_again(_: &Boot) -> Result<(), String> {
    let view = view()?;
    let before = crate::memory::frames::free_count();
    for _ in 0..200 {
        let id = spawn::spawn(&spec(), &view).map_err(say)?;
        let thread = scheduler::find(id).map_err(say)?;
        check!(thread.number.0 < 8, "numbers are used again");
        end::kill(&thread).map_err(say)?;
        drop(thread);
        delete::by_id(id).map_err(say)?;
    }
    let after = crate::memory::frames::free_count();
    check!(before.abs_diff(after) < 64, "{before} frames before, {after} after");
    delete::delete(&view).map_err(say)
}

fn all_killed(_: &Boot) -> Result<(), String> {
    let (view, other) = (view()?, view()?);
    let mut ids = alloc::vec::Vec::new();
    for _ in 0..10 {
        ids.push(spawn::spawn(&spec(), &view).map_err(say)?);
    }
    let stays = spawn::spawn(&spec(), &other).map_err(say)?;
    let running = view.with_view(|running| running.clone()).map_err(say)?.ok_or("threads run in it")?;
    end::kill_all(&running);
    for id in ids {
        check!(scheduler::find(id).err() == Some(Error::NoSuchObject));
        delete::by_id(id).map_err(say)?;
    }
    let thread = scheduler::find(stays).map_err(say)?;
    end::kill(&thread).map_err(say)?;
    delete::by_id(stays).map_err(say)?;
    delete::delete(&other).map_err(say)?;
    delete::delete(&view).map_err(say)
}

/// Page by page, memory for a thread comes back: it is refused at each step of its making, and nothing is left over.
fn without_memory(_: &Boot) -> Result<(), String> {
    const FREED: u64 = 64;
    let (view, free) = (view()?, crate::memory::frames::free_count());
    let filler = create::volatile(ObjectFlags::LARGE, USUAL_RIGHTS).map_err(say)?;
    filler.populate(BASE_OFFSET, FREED * PAGE_BYTES).map_err(say)?;
    let mut at = 2 << 20;
    for step in [64 << 20, 2 << 20, PAGE_BYTES] {
        while filler.populate(at, step).is_ok() {
            at += step;
        }
    }
    let mut started = 0;
    for page in 0..FREED {
        match spawn::spawn(&spec(), &view) {
            Ok(id) => {
                started += 1;
                end::kill(&scheduler::find(id).map_err(say)?).map_err(say)?;
                delete::by_id(id).map_err(say)?;
            }
            Err(error) => check!(error == Error::OutOfMemory, "with {page} pages: {error}"),
        }
        filler.discard(BASE_OFFSET + page * PAGE_BYTES, PAGE_BYTES).map_err(say)?;
    }
    check!((1..FREED).contains(&started), "{started} threads");
    delete::delete(&filler).map_err(say)?;
    while crate::object::garbage::tidy() {}
    let after = crate::memory::frames::free_count();
    check!(free.abs_diff(after) < 64, "{free} frames before, {after} after");
    delete::delete(&view).map_err(say)
}
