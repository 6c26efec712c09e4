//! The contract between the machine and the kernel above it: how user code gets in and out.
//!
//! **In.** At a `syscall`, an exception or an interrupt, all integer registers of the running thread are
//! saved into its [`UserContext`], the *current* one, and one of the [`Hooks`] is called on the CPU's own
//! stack with interrupts off. The hook returns; it can't block.
//!
//! **Out.** After each entry [`Hooks::schedule`] says what to run. The context that it names becomes
//! current. The same as before: nothing else is loaded. Another: its root, vector state and segment bases are.
//!
//! **Leaving the CPU.** Before a thread becomes visible to other CPUs (in a queue, as a waiter), or is
//! freed, its context is detached here: [`detach`] saves what is still in registers, [`discard`] does not.
//!
//! **Return instruction.** `sysret` where RCX and R11 hold what it would leave there anyway (so after each
//! `syscall` whose frame wasn't changed), `iretq` otherwise: all registers come back as saved.

use alloc::sync::Arc;
use core::marker::PhantomPinned;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use twizzler_abi::Error;
use twizzler_abi::thread::Registers;
use x86_64::registers::model_specific::Msr;

use super::cpu::{self, Cpu};
use super::start_info;
use super::tlb::{self, Root};
use super::vector::VectorState;

/// A thread's user state while it is not on a CPU, and the place that entries save it to.
///
/// It must stay at its address while it is current: keep it boxed.
#[repr(C)]
pub(crate) struct UserContext {
    /// The integer registers. Whatever stands here is made harmless before it is loaded. The two segment
    /// bases are out of date while the context is current: see [`set_fs_base`].
    pub(crate) registers: Registers,
    vector: VectorState,
    root: Arc<Root>,
    /// Hooks hold `&mut` to the context while [`detach`] completes it through the CPU's pointer, and other CPUs may run it
    /// before the hook returns. Without `Unpin`, such a reference does not claim to be the only way.
    _shared: PhantomPinned,
}

const _: () = assert!(core::mem::offset_of!(UserContext, registers) == 0);

impl UserContext {
    /// A context with vector state as the machine resets it, that runs in `root`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn new(registers: Registers, root: Arc<Root>) -> Result<Self, Error> {
        Ok(Self { registers, vector: VectorState::new()?, root, _shared: PhantomPinned })
    }

    /// The vector state, in XSAVE's standard format, of a detached context.
    #[must_use]
    pub(crate) fn vector_state(&self) -> &[u8] {
        debug_assert!(!is_current(self), "the vector state is in the CPU's registers");
        self.vector.bytes()
    }

    /// Replaces the vector state of a detached context by one that need not be trusted.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it hasn't [`super::vector::area_bytes`].
    pub(crate) fn set_vector_state(&mut self, state: &[u8]) -> Result<(), Error> {
        debug_assert!(!is_current(self), "the vector state is in the CPU's registers");
        self.vector.set(state)
    }
}

fn is_current(context: &UserContext) -> bool {
    ptr::eq(cpu::current().current.get(), context)
}

/// What happened in user mode, by the machine's numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trap {
    /// Exception vector, 0 to 31.
    pub(crate) vector: u8,
    /// Error code; 0 where the exception has none.
    pub(crate) error: u64,
    /// CR2: the address, of a page fault.
    pub(crate) address: u64,
}

/// Vector of a page fault.
pub(crate) const PAGE_FAULT: u8 = 14;

impl Trap {
    /// The access, of a page fault.
    #[must_use]
    pub(crate) fn access(&self) -> Access {
        match (self.error >> 4 & 1 != 0, self.error >> 1 & 1 != 0) {
            (true, _) => Access::Fetch,
            (false, true) => Access::Write,
            (false, false) => Access::Read,
        }
    }
}

/// A kind of memory access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// An interrupt that the kernel above hears of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    /// The time of [`super::timer::arm`] has come.
    Timer,
    /// Another CPU called [`super::smp::kick`].
    Reschedule,
    /// Console input arrived.
    Console,
}

/// What to do next on a CPU.
pub(crate) enum Next {
    /// Go on with this context, which is detached or current on this CPU.
    User(*mut UserContext),
    /// Wait for an interrupt.
    Idle,
}

/// What the kernel above does at each kind of entry. All run on the CPU's stack, with interrupts off.
pub(crate) struct Hooks {
    /// The current thread executed `syscall`: number and arguments are in its registers, results go there.
    pub(crate) call: fn(&'static Cpu, &mut UserContext),
    /// The current thread caused an exception.
    pub(crate) fault: fn(&'static Cpu, &mut UserContext, Trap),
    /// An interrupt; from user mode or from idling.
    pub(crate) interrupt: fn(&'static Cpu, Interrupt),
    /// Says what runs next. Called after every other hook, and when an idle CPU wakes.
    pub(crate) schedule: fn(&'static Cpu) -> Next,
    /// The kernel touched an address of the lower half through [`super::user`] and it isn't mapped so: map it in
    /// the current context's root. False: it can't be, and the copy fails.
    pub(crate) resolve: fn(&'static Cpu, u64, Access) -> bool,
    /// Called once, on the boot CPU, when all CPUs are up and before the first `schedule`.
    pub(crate) start: fn(&'static start_info::Boot),
}

static HOOKS: AtomicPtr<Hooks> = AtomicPtr::new(ptr::null_mut());

/// Sets the hooks. To be called before anything can enter; tests replace them for themselves.
pub(crate) fn install(hooks: &'static Hooks) {
    HOOKS.store(ptr::from_ref(hooks).cast_mut(), Ordering::Release);
}

pub(super) fn hooks() -> &'static Hooks {
    // Partner: the release store in `install`.
    let hooks = HOOKS.load(Ordering::Acquire);
    // SAFETY: null, or a `&'static Hooks`.
    unsafe { hooks.as_ref() }.expect("hooks are installed before anything can enter")
}

/// Takes the current context, if there is one, off this CPU and completes it.
pub(crate) fn detach(cpu: &'static Cpu) {
    let context = cpu.current.replace(ptr::null_mut());
    // SAFETY: invariant **detached**: the current context is alive, and this CPU's alone.
    let Some(context) = (unsafe { context.as_mut() }) else { return };
    context.vector.save();
    (context.registers.fs_base, context.registers.gs_base) = read_bases();
}

/// Takes the current context, if there is one, off this CPU without completing it: its thread has ended. The CPU leaves
/// its root as well.
pub(crate) fn discard(cpu: &'static Cpu) {
    cpu.current.set(ptr::null_mut());
    tlb::load(cpu, None);
}

/// The context that is current on this CPU.
#[must_use]
pub(crate) fn current(cpu: &'static Cpu) -> Option<*mut UserContext> {
    Some(cpu.current.get()).filter(|context| !context.is_null())
}

/// Sets the current thread's FS base.
///
/// # Errors
/// [`Error::InvalidArgument`] for an address that is not in the lower half.
pub(crate) fn set_fs_base(address: u64) -> Result<(), Error> {
    set_base(MSR_FS_BASE, address)
}

/// Sets the current thread's GS base.
///
/// # Errors
/// [`Error::InvalidArgument`] for an address that is not in the lower half.
pub(crate) fn set_gs_base(address: u64) -> Result<(), Error> {
    set_base(MSR_KERNEL_GS_BASE, address)
}

/// First address that user code can't have.
pub(crate) const USER_END: u64 = 1 << 47;

const MSR_FS_BASE: u32 = 0xc000_0100;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

fn set_base(msr: u32, address: u64) -> Result<(), Error> {
    if address >= USER_END {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: FS, and the GS that `swapgs` brings in, are not used by the kernel; the address is canonical.
    unsafe { Msr::new(msr).write(address) };
    Ok(())
}

fn read_bases() -> (u64, u64) {
    // SAFETY: reads.
    let fs = unsafe { Msr::new(MSR_FS_BASE).read() };
    // SAFETY: reads.
    let gs = unsafe { Msr::new(MSR_KERNEL_GS_BASE).read() };
    (fs, gs)
}

/// Runs what [`Hooks::schedule`] says, for good. Each CPU ends its start here; every entry comes back here
/// with the stack emptied.
pub(crate) fn run(cpu: &'static Cpu) -> ! {
    loop {
        match (hooks().schedule)(cpu) {
            Next::User(context) => go(cpu, context),
            Next::Idle => idle(cpu),
        }
    }
}

fn go(cpu: &'static Cpu, next: *mut UserContext) -> ! {
    // SAFETY: the contract of `schedule`: alive, at its place until detached, and no other CPU's.
    let context = unsafe { &mut *next };
    if !ptr::eq(cpu.current.get(), next) {
        debug_assert!(cpu.current.get().is_null(), "a context was left without being detached");
        tlb::load(cpu, Some(&context.root));
        context.vector.load();
        for (msr, base) in
            [(MSR_FS_BASE, context.registers.fs_base), (MSR_KERNEL_GS_BASE, context.registers.gs_base)]
        {
            // SAFETY: not the kernel's segments; sign extension from bit 47 makes any value canonical.
            unsafe { Msr::new(msr).write(((base << 16) as i64 >> 16) as u64) };
        }
        cpu.current.set(next);
    }
    super::entry_asm::resume(&mut context.registers)
}

fn idle(cpu: &'static Cpu) {
    debug_assert!(cpu.current.get().is_null(), "a context was left without being detached");
    tlb::load(cpu, None);
    x86_64::instructions::interrupts::enable_and_hlt();
    x86_64::instructions::interrupts::disable();
}
