//! Other programs: starting them, waiting for them, clearing up after them.
//!
//! A program gets a view and volatile objects of its own: text, data, stack, heap, startup object and
//! translation table. They end with it, and so does every volatile object that it has listed in its startup
//! object.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::offset_of;

use twizzler_abi::address::{PAGE_BYTES, band};
use twizzler_abi::call::{ControlOp, ObjectStat, SpawnSpec, StatOp, USUAL_RIGHTS};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::system::{ARCHIVE_ID, SYSTEM_ID, System};
use twizzler_abi::{Error, Life, ObjId, Rights};
use twizzler_loader::{HEAD_BYTES, LoadError, Part, Plan, Segment};

use crate::mapping::Mapping;
use crate::thread::{self, End, Watch};
use crate::{call, console, file, memory, slots, stack, startup, sync, system};

/// Why a program could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpawnError {
    /// The file is no program.
    Load(LoadError),
    /// The kernel refused.
    Call(Error),
}

impl From<Error> for SpawnError {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl From<LoadError> for SpawnError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl core::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Load(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
        }
    }
}

/// Bytes that are copied at once.
const CHUNK_BYTES: usize = 32 << 10;

/// Volatile objects that are deleted again unless they are kept.
struct Objects(Vec<ObjId>);

impl Objects {
    fn create(&mut self, flags: ObjectFlags, rights: Rights) -> Result<ObjId, Error> {
        let id = call::create(flags, rights)?;
        self.keep(id);
        Ok(id)
    }

    fn keep(&mut self, id: ObjId) {
        startup::own(id);
        self.0.push(id);
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        for id in self.0.drain(..) {
            call::delete_soon(id);
            startup::disown(id);
        }
    }
}

/// A program that was started. Dropping it ends the program and deletes its volatile objects.
pub struct Process {
    watch: Option<Watch>,
    startup: Option<Mapping>,
    view: ObjId,
    interrupts: u64,
    objects: Objects,
    /// Keeps the instructions in memory.
    _program: Program,
}

impl core::fmt::Debug for Process {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Process").field("watch", &self.watch).finish_non_exhaustive()
    }
}

/// A program that may be started any number of times. Its instructions are in memory once.
#[derive(Clone, Debug)]
pub struct Program(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    plan: Plan,
    text: Text,
    /// What the data object of each start is a copy of.
    data: ObjId,
}

/// Where a program's instructions are.
#[derive(Clone, Copy, Debug)]
enum Text {
    /// In the object that this program runs from.
    Shared(ObjId),
    /// In an object that was made for it.
    Own(ObjId),
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let text = match self.text {
            Text::Own(text) => Some(text),
            Text::Shared(_) => None,
        };
        drop(Objects([self.data].into_iter().chain(text).collect()));
    }
}

/// The object that this program's instructions are in.
fn own_text() -> ObjId {
    slots::entry(band::TEXT).id
}

/// Head of the note with the linker's hash of the whole program, and the hash, at the start of a program's instructions.
/// Source: ELF gABI, "Note Section"; `ld --build-id=sha1`.
const BUILD_ID_HEAD: [u8; 16] = *b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
const BUILD_ID_BYTES: usize = BUILD_ID_HEAD.len() + 20;

/// Whether a program's file is the one that this program was started from.
fn is_own(plan: &Plan, read: &impl Fn(u64, &mut [u8])) -> bool {
    let starts_text = |segment: &Segment| segment.part == Part::Text && segment.offset == BASE_OFFSET;
    let Some(segment) = plan.segments().find(|&segment| starts_text(segment)) else { return false };
    let (mut theirs, mut ours) = ([0; BUILD_ID_BYTES], [0; BUILD_ID_BYTES]);
    if segment.file_bytes < BUILD_ID_BYTES {
        return false;
    }
    read(segment.file_start as u64, &mut theirs);
    // SAFETY: this program's instructions are mapped as long as it runs, and at least a page of them.
    unsafe { memory::copy_in(band::TEXT.base() + BASE_OFFSET, &mut ours) };
    theirs.starts_with(&BUILD_ID_HEAD) && theirs == ours
}

impl Program {
    /// Checks a program's file of `file_bytes`, of which `read` copies bytes, and loads its instructions; those of the
    /// file that this very program was started from are there already.
    ///
    /// # Errors
    /// What is wrong with the file, or the kernel's reason.
    pub fn load(file_bytes: u64, read: impl Fn(u64, &mut [u8])) -> Result<Self, SpawnError> {
        let mut head = vec![0; HEAD_BYTES.min(usize::try_from(file_bytes).unwrap_or(usize::MAX))];
        read(0, &mut head);
        let plan = Plan::of_head(&head, file_bytes)?;
        let mut objects = Objects(Vec::new());
        let mut load = |part| {
            let id = part_object(&mut objects, &plan, part)?;
            let mapping = Mapping::new(id, Rights::READ | Rights::WRITE)?;
            for segment in plan.segments().filter(|segment| segment.part == part) {
                let from = |at, bytes: &mut [u8]| read(segment.file_start as u64 + at, bytes);
                copy(from, &mapping, segment.offset, segment.file_bytes);
            }
            Ok::<_, Error>(id)
        };
        let data = load(Part::Data)?;
        let text = if is_own(&plan, &read) { Text::Shared(own_text()) } else { Text::Own(load(Part::Text)?) };
        objects.0.clear();
        Ok(Self(Arc::new(Loaded { plan, text, data })))
    }

    /// Starts the program with arguments (the first is its name) and variables.
    ///
    /// # Errors
    /// The kernel's reason. Nothing is left behind then.
    pub fn spawn(&self, arguments: &[&str], variables: &[&str]) -> Result<Process, SpawnError> {
        let Loaded { plan, text, data } = &*self.0;
        let (Text::Shared(text) | Text::Own(text)) = text;
        let mut objects = Objects(Vec::new());
        let startup_id = objects.create(ObjectFlags::empty(), USUAL_RIGHTS)?;
        let startup = Mapping::new(startup_id, Rights::READ | Rights::WRITE)?;
        startup::fill(&startup, arguments, variables)?;
        let data_id = part_object(&mut objects, plan, Part::Data)?;
        let (from, to) =
            (Mapping::new(*data, Rights::READ)?, Mapping::new(data_id, Rights::READ | Rights::WRITE)?);
        for segment in plan.segments().filter(|segment| segment.part == Part::Data) {
            let read = |at, bytes: &mut [u8]| from.read(segment.offset + at, bytes);
            copy(read, &to, segment.offset, segment.file_bytes);
        }
        drop((from, to));
        let view = make_view(&mut objects, *text, data_id, startup_id)?;

        let interrupts = system::word(offset_of!(System, console_interrupts));
        let spec = SpawnSpec {
            view,
            entry: plan.entry,
            stack_pointer: stack::top(band::STACK),
            stack_low: stack::low(band::STACK),
            argument: band::STARTUP.base() + BASE_OFFSET,
            argument2: 0,
            fs_base: 0,
            priority: thread::PRIORITY_USUAL,
            reserved: 0,
            name: thread::name_bytes(arguments.first().copied().unwrap_or("program")),
        };
        // SAFETY: the thread runs in another view, which shares no memory with Rust's values here.
        let thread = unsafe { call::thread_spawn(&spec) }?;
        objects.keep(thread);
        let program = self.clone();
        let mut process =
            Process { watch: None, startup: Some(startup), view, interrupts, objects, _program: program };
        process.watch = Some(Watch::new(thread)?);
        Ok(process)
    }
}

/// Copies what `read` gives to an object, in pieces.
fn copy(read: impl Fn(u64, &mut [u8]), to: &Mapping, offset: u64, len: usize) {
    let mut chunk = vec![0; CHUNK_BYTES.min(len)];
    for done in (0..len).step_by(CHUNK_BYTES) {
        let part = &mut chunk[..CHUNK_BYTES.min(len - done)];
        read(done as u64, part);
        to.write(offset + done as u64, part);
    }
}

/// Makes the view of a program that is about to be started, and what else is in it.
fn make_view(objects: &mut Objects, text: ObjId, data: ObjId, startup: ObjId) -> Result<ObjId, Error> {
    let id = objects.create(ObjectFlags::VIEW, USUAL_RIGHTS)?;
    let view = Mapping::new(id, Rights::READ | Rights::WRITE)?;
    let set = |slot, id, rights| slots::write_entry(view.slot(), slot, id, rights);
    let read_write = Rights::READ | Rights::WRITE;
    set(band::TEXT, text, Part::Text.rights());
    set(band::DATA, data, Part::Data.rights());
    for slot in [band::HEAP, band::TRANSLATION] {
        set(slot, objects.create(ObjectFlags::empty(), USUAL_RIGHTS)?, read_write);
    }
    let stack = stack::create()?;
    objects.keep(stack);
    set(band::STACK, stack, read_write);
    set(band::VIEW, id, read_write);
    set(band::STARTUP, startup, read_write);
    set(band::SYSTEM, SYSTEM_ID, Rights::READ);
    if !slots::entry(band::ARCHIVE).id.is_none() {
        set(band::ARCHIVE, ARCHIVE_ID, Rights::READ);
    }
    Ok(id)
}

/// Makes one part's object, with room for what the file fills.
fn part_object(objects: &mut Objects, plan: &Plan, part: Part) -> Result<ObjId, Error> {
    let rights = part.rights() | Rights::WRITE | Rights::DELETE;
    let id = objects.create(ObjectFlags::empty(), rights)?;
    let segments = plan.segments().filter(|segment| segment.part == part);
    let end = segments.map(|segment| segment.offset + segment.file_bytes as u64).max().unwrap_or(BASE_OFFSET);
    let bytes = (end - BASE_OFFSET).next_multiple_of(PAGE_BYTES);
    if bytes > 0 {
        // One call in place of a fault for each page.
        call::control(ControlOp::Populate, id, BASE_OFFSET, bytes)?;
    }
    Ok(id)
}

/// An object that a program's output goes to in place of the console.
#[derive(Debug)]
pub struct Kept(ObjId);

impl Kept {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn new() -> Result<Self, Error> {
        let id = call::create(ObjectFlags::empty(), USUAL_RIGHTS)?;
        startup::own(id);
        Ok(Self(id))
    }

    /// The variable to start the program with.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}={}", console::OUTPUT_VARIABLE, self.0)
    }

    /// All output so far.
    ///
    /// # Errors
    /// That the object is gone.
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        file::read(self.0)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = call::delete(self.0);
        startup::disown(self.0);
    }
}

/// What [`Process::wait`] saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// The program ended.
    Ended(End),
    /// Ctrl-C was pressed; the program still runs.
    Interrupted,
}

impl Process {
    fn watch(&self) -> &Watch {
        self.watch.as_ref().expect("there from spawn to drop")
    }

    /// The program's first thread.
    #[must_use]
    pub fn thread(&self) -> ObjId {
        self.watch().id()
    }

    /// Waits until the program's first thread ends, or Ctrl-C is pressed.
    pub fn wait(&mut self) -> Waited {
        loop {
            let change = match self.watch().end() {
                Ok(end) => return Waited::Ended(end),
                Err(change) => change,
            };
            let pressed = system::word(offset_of!(System, console_interrupts));
            if pressed != self.interrupts {
                self.interrupts = pressed;
                return Waited::Interrupted;
            }
            let mut ops = [change, sync::wait(system::interrupts_address(), pressed)];
            let _ = call::thread_sync(&mut ops, sync::FOR_EVER);
        }
    }

    /// Waits until the program ends, whatever is pressed.
    #[must_use]
    pub fn wait_for_end(&mut self) -> End {
        loop {
            if let Waited::Ended(end) = self.wait() {
                return end;
            }
        }
    }

    /// Ends the program and waits until its first thread has ended.
    pub fn kill(&mut self) {
        let _ = call::thread_kill(self.thread());
        let _ = self.watch().wait();
    }

    /// Ends all threads of the program, and returns its volatile objects: threads that ran in its view, and what it
    /// has listed.
    fn remains(&self) -> Vec<ObjId> {
        let _ = call::thread_kill(self.view);
        let is_thread =
            |stat: &ObjectStat| ObjectFlags::from_bits_truncate(stat.flags).contains(ObjectFlags::THREAD);
        let threads = call::objects(StatOp::NextVolatile).filter(is_thread);
        let watches = threads.filter_map(|stat| Watch::new(stat.id).ok());
        let in_view = watches.filter(|watch| watch.state().view == self.view);
        let mut remains: Vec<ObjId> = in_view
            .map(|watch| {
                let _ = watch.wait();
                watch.id()
            })
            .collect();
        let listed = self.startup.as_ref().map(startup::owned).unwrap_or_default();
        let stats = listed.into_iter().filter_map(|id| call::stat(StatOp::Object, id).ok());
        remains.extend(stats.filter(of_program).map(|stat| stat.id));
        remains
    }
}

/// Whether an object that a program has listed may be its own.
fn of_program(stat: &ObjectStat) -> bool {
    let flags = ObjectFlags::from_bits_truncate(stat.flags);
    let shared = stat.id == SYSTEM_ID || stat.id == ARCHIVE_ID || stat.id == slots::view();
    flags.life() == Life::Volatile && !shared
}

impl Drop for Process {
    fn drop(&mut self) {
        for id in self.remains() {
            call::delete_soon(id);
        }
        // The mappings go before the objects.
        self.watch = None;
        self.startup = None;
        self.objects.0.reverse();
    }
}
