//! Threads of this program, and the end of any thread.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use twizzler_abi::address::{SLOTS, Slot, band};
use twizzler_abi::call::{SpawnSpec, SyncOp};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::thread::{FaultInfo, NAME_BYTES, Registers, Status, ThreadState};
use twizzler_abi::{Error, ObjId, Rights};
use zerocopy::FromBytes as _;

use crate::mapping::Mapping;
use crate::sync::{self, Mutex};
use crate::{call, slots, stack, startup};

/// Priority of a thread that asks for none.
pub const PRIORITY_USUAL: u32 = 16;

/// How a thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It exited with this status.
    Exited(u64),
    /// It was stopped.
    Fault {
        /// Why.
        info: FaultInfo,
        /// The instruction that it was at.
        rip: u64,
    },
}

/// A thread's state, seen from outside.
#[derive(Debug)]
pub struct Watch(Mapping);

impl Watch {
    /// Looks at a thread.
    ///
    /// # Errors
    /// That there is no such object.
    pub fn new(id: ObjId) -> Result<Self, Error> {
        Mapping::new(id, Rights::READ).map(Self)
    }

    /// The thread.
    #[must_use]
    pub const fn id(&self) -> ObjId {
        self.0.id()
    }

    /// The whole state, as it stands; what changes meanwhile may be torn.
    #[must_use]
    pub fn state(&self) -> ThreadState {
        let mut bytes = [0; size_of::<ThreadState>()];
        self.0.read(BASE_OFFSET, &mut bytes);
        ThreadState::read_from_bytes(&bytes).expect("as many bytes as a state has")
    }

    fn status(&self) -> u64 {
        self.0.word(BASE_OFFSET + offset_of!(ThreadState, status) as u64).load(Ordering::Acquire)
    }

    /// How the thread ended. If it has not, a wait for a change of what it was just seen doing: its status is read once, since a wait for a change
    /// of the last one would never end.
    ///
    /// # Errors
    /// The wait.
    pub fn end(&self) -> Result<End, SyncOp> {
        let status = self.status();
        if Status::try_from(status) != Ok(Status::Ended) {
            let address = self.0.address() + BASE_OFFSET + offset_of!(ThreadState, status) as u64;
            return Err(sync::wait(address, status));
        }
        let ThreadState { fault, exit_code, registers: Registers { rip, .. }, .. } = self.state();
        Ok(if fault.kind == 0 { End::Exited(exit_code) } else { End::Fault { info: fault, rip } })
    }

    /// Waits until the thread has ended.
    #[must_use]
    pub fn wait(&self) -> End {
        loop {
            match self.end() {
                Ok(end) => return end,
                Err(change) => {
                    let _ = call::thread_sync(&mut [change], sync::FOR_EVER);
                }
            }
        }
    }
}

/// A name as the kernel takes it: cut off where it doesn't fit.
pub(crate) fn name_bytes(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    let len = name.floor_char_boundary(NAME_BYTES - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    bytes
}

/// A thread of this program that can be waited for. Dropped without [`Handle::join`], the thread goes on and
/// its stack stays until the program's end.
#[derive(Debug)]
pub struct Handle<T> {
    watch: Watch,
    stack: ObjId,
    slot: Slot,
    result: Arc<Mutex<Option<T>>>,
}

/// Stack slots after the first thread's.
static NEXT_STACK: AtomicU32 = AtomicU32::new(1);
static FREE_STACKS: Mutex<alloc::vec::Vec<Slot>> = Mutex::new(alloc::vec::Vec::new());

fn take_stack_slot() -> Result<Slot, Error> {
    if let Some(slot) = FREE_STACKS.lock().pop() {
        return Ok(slot);
    }
    let number = band::STACK.number() + NEXT_STACK.fetch_add(1, Ordering::Relaxed);
    Slot::new(number).filter(|slot| slot.number() < SLOTS).ok_or(Error::TooMany)
}

/// Starts a thread that runs `body`.
///
/// # Errors
/// The kernel's reason.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<Handle<T>, Error> {
    let result = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&result);
    let body: Box<Body> = Box::new(Box::new(move || *theirs.lock() = Some(body())));
    let stack = stack::create()?;
    startup::own(stack);
    let slot = take_stack_slot()?;
    slots::set_entry(slot, stack, Rights::READ | Rights::WRITE);
    let spec = SpawnSpec {
        view: ObjId::NONE,
        entry: entry(),
        stack_pointer: stack::top(slot),
        stack_low: stack::low(slot),
        argument: Box::into_raw(body) as u64,
        argument2: 0,
        fs_base: 0,
        priority: PRIORITY_USUAL,
        reserved: 0,
        name: name_bytes(name),
    };
    // SAFETY: the entry takes the box that it is given; the stack was made for it.
    match unsafe { call::thread_spawn(&spec) } {
        Ok(id) => {
            startup::own(id);
            Ok(Handle { watch: Watch::new(id)?, stack, slot, result })
        }
        Err(error) => {
            // SAFETY: no thread was started, so the box is still ours.
            drop(unsafe { Box::from_raw(spec.argument as *mut Body) });
            release_stack(stack, slot);
            Err(error)
        }
    }
}

fn release_stack(stack: ObjId, slot: Slot) {
    slots::clear_entry(slot);
    call::delete_soon(stack);
    startup::disown(stack);
    FREE_STACKS.lock().push(slot);
}

impl<T> Handle<T> {
    /// The thread.
    #[must_use]
    pub const fn id(&self) -> ObjId {
        self.watch.id()
    }

    /// Its state.
    #[must_use]
    pub const fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Waits for the thread; returns its result, or how it ended without one.
    ///
    /// # Errors
    /// How the thread ended, if it did not reach its end.
    pub fn join(self) -> Result<T, End> {
        let end = self.watch.wait();
        let id = self.watch.id();
        drop(self.watch);
        call::delete_soon(id);
        startup::disown(id);
        release_stack(self.stack, self.slot);
        self.result.lock().take().ok_or(end)
    }
}

type Body = Box<dyn FnOnce() + Send>;

#[cfg(target_os = "none")]
fn entry() -> u64 {
    // SAFETY: a label of the assembly in this file; only its address is taken.
    unsafe extern "sysv64" {
        fn twizzler_thread_start();
    }
    twizzler_thread_start as *const () as u64
}

#[cfg(not(target_os = "none"))]
fn entry() -> u64 {
    run as *const () as u64
}

// The System V ABI wants RSP + 8 to be a multiple of 16 when a function is entered.
#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".global twizzler_thread_start",
    "twizzler_thread_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {run}",
    "ud2",
    run = sym run,
);

extern "sysv64" fn run(body: *mut Body) -> ! {
    // SAFETY: `spawn` gives each thread a box of its own.
    let body = unsafe { Box::from_raw(body) };
    body();
    call::thread_exit(0)
}
