//! From a running machine to the first program.

use alloc::sync::Arc;
use core::mem::offset_of;

use twizzler_abi::address::{PAGE_BYTES, Slot, band};
use twizzler_abi::call::{SpawnSpec, USUAL_RIGHTS};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::system::{ARCHIVE_ID, SYSTEM_ID, System};
use twizzler_abi::thread::NAME_BYTES;
use twizzler_abi::view::{ViewEntry, entry_offset};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_loader::{LoadError, Part, Plan};
use zerocopy::{FromZeros, IntoBytes};

use crate::archive;
use crate::machine::start_info::Boot;
use crate::machine::{clock, power};
use crate::memory::frames;
use crate::object::budget::USERS;
use crate::object::{Object, create, nvm, system};
use crate::thread::{scheduler, spawn};
use ::log::{error, info};

/// The first program's file in the archive, and its thread's name.
const PROGRAM: &str = "bin/init";
/// Stack of the first thread: from its second page (the first is forbidden) to here.
const STACK_END: u64 = 2 << 20;
/// Neither high nor low.
const PRIORITY: u32 = 16;

/// Brings everything above the machine up: system and archive objects, the store if it can be mounted, and,
/// unless tests are to be run, the first program.
pub(crate) fn start(boot: &'static Boot) {
    USERS.start(frames::free_count());
    if let Err(error) = publish(boot) {
        fail("the system could not be started", &error);
    }
    if boot.value("test").is_none() {
        first_program(boot);
    }
}

fn publish(boot: &'static Boot) -> Result<(), Error> {
    scheduler::start()?;
    system::publish(boot)?;
    nvm::mount(boot);
    archive::publish(boot.archive)
}

/// Starts the first program.
fn first_program(boot: &'static Boot) {
    if let Err(error) = run(boot.archive) {
        fail(PROGRAM, &error);
    }
    system::set(offset_of!(System, boot_ns), boot.before_kernel_ns + clock::now_ns());
    info!("first program started");
}

/// There is nothing to go on with.
fn fail(what: &str, why: &dyn core::fmt::Display) -> ! {
    error!("{what}: {why}");
    power::off(power::STATUS_PANIC)
}

/// Why the first program doesn't run.
enum StartError {
    Missing,
    Bad(LoadError),
    Refused(Error),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Missing => f.write_str("not in the boot archive"),
            Self::Bad(error) => write!(f, "no program: {error}"),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

fn run(files: &[u8]) -> Result<(), StartError> {
    let file = archive::find(files, PROGRAM).ok_or(StartError::Missing)?;
    let plan = Plan::new(file).map_err(StartError::Bad)?;
    let view = create::volatile(ObjectFlags::VIEW, USUAL_RIGHTS)?;
    let text = part(file, &plan, Part::Text, Rights::READ | Rights::EXECUTE | Rights::DELETE)?;
    let data = part(file, &plan, Part::Data, USUAL_RIGHTS)?;
    let stack = create::volatile(ObjectFlags::empty(), USUAL_RIGHTS)?;
    stack.forbid(BASE_OFFSET, PAGE_BYTES)?;
    let write = Rights::READ | Rights::WRITE;
    map(&view, band::TEXT, text.id, Rights::READ | Rights::EXECUTE)?;
    map(&view, band::DATA, data.id, write)?;
    map(&view, band::VIEW, view.id, write)?;
    map(&view, band::SYSTEM, SYSTEM_ID, Rights::READ)?;
    map(&view, band::ARCHIVE, ARCHIVE_ID, Rights::READ)?;
    map(&view, band::STACK, stack.id, write)?;
    let mut name = [0; NAME_BYTES];
    name[..PROGRAM.len()].copy_from_slice(PROGRAM.as_bytes());
    let spec = SpawnSpec {
        entry: plan.entry,
        stack_pointer: band::STACK.base() + STACK_END,
        stack_low: band::STACK.base() + BASE_OFFSET + PAGE_BYTES,
        priority: PRIORITY,
        name,
        ..SpawnSpec::new_zeroed()
    };
    spawn::spawn(&spec, &view)?;
    Ok(())
}

/// An object with one part of a program.
fn part(file: &[u8], plan: &Plan, part: Part, rights: Rights) -> Result<Arc<Object>, StartError> {
    let object = create::volatile(ObjectFlags::empty(), rights)?;
    for segment in plan.segments().filter(|segment| segment.part == part) {
        let content = file.get(segment.file_range()).ok_or(StartError::Bad(LoadError::Truncated))?;
        object.write(segment.offset, content)?;
    }
    Ok(object)
}

fn map(view: &Object, slot: Slot, id: ObjId, rights: Rights) -> Result<(), Error> {
    let entry = ViewEntry { id, rights: rights.bits(), reserved: 0, sequence: 2 };
    view.write(entry_offset(slot), entry.as_bytes())
}
