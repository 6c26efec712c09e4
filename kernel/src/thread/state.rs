//! A thread: the kernel's side, and the state that its object shows to readers.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::thread::{FaultInfo, Registers, Status, ThreadState};
use twizzler_sched::{ThreadNo, WordKey};

use crate::machine::cpu::Cpu;
use crate::machine::entry::{self, UserContext};
use crate::object::Object;
use crate::object::budget::Charge;
use crate::view::View;

/// What happens when a blocked thread runs again.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OnWake {
    /// Nothing: it starts its call again.
    Restart = 0,
    /// The wait's outcome is the call's result.
    Results = 1,
}

/// A thread that has not ended.
pub(crate) struct Thread {
    pub(crate) number: ThreadNo,
    /// Its object: not deleted before the thread has ended.
    pub(crate) object: Arc<Object>,
    pub(crate) view: Arc<View>,
    state: StatePage,
    /// From a box, which the thread owns. Invariant **owned**: touched by the CPU that the thread runs on, or,
    /// while it runs on none, by the holder of the scheduler's lock.
    context: NonNull<UserContext>,
    _charge: Charge,
    killed: AtomicBool,
    on_wake: AtomicU8,
    pub(super) handler: AtomicU64,
    pub(super) handler_stack: AtomicU64,
    /// In its upcall handler: a fault there ends it.
    pub(super) in_upcall: AtomicBool,
    pub(crate) stack_low: u64,
    /// When it last got a CPU.
    since_ns: AtomicU64,
    cpu_time_ns: AtomicU64,
    /// The last fault that found nothing to do: its address, and how often in a row.
    pub(super) idle_fault: AtomicU64,
    pub(super) idle_faults: AtomicU32,
}

// SAFETY: all fields are shareable but `context`, whose use invariant **owned** orders.
unsafe impl Sync for Thread {}
// SAFETY: as above; nothing in it belongs to one CPU while the thread runs on none.
unsafe impl Send for Thread {}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: from a leaked box; the thread runs nowhere, or its CPU would have kept it.
        drop(unsafe { Box::from_raw(self.context.as_ptr()) });
    }
}

impl Thread {
    pub(super) fn new(
        number: ThreadNo,
        object: Arc<Object>,
        view: Arc<View>,
        state: StatePage,
        context: Box<UserContext>,
        charge: Charge,
        stack_low: u64,
    ) -> Self {
        Self {
            number,
            object,
            view,
            state,
            context: NonNull::from(Box::leak(context)),
            _charge: charge,
            killed: AtomicBool::new(false),
            on_wake: AtomicU8::new(OnWake::Restart as u8),
            handler: AtomicU64::new(0),
            handler_stack: AtomicU64::new(0),
            in_upcall: AtomicBool::new(false),
            stack_low,
            since_ns: AtomicU64::new(0),
            cpu_time_ns: AtomicU64::new(0),
            idle_fault: AtomicU64::new(0),
            idle_faults: AtomicU32::new(0),
        }
    }

    pub(crate) fn state(&self) -> &StatePage {
        &self.state
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Relaxed)
    }

    /// To be ended at its next way through the scheduler. Under the scheduler's lock.
    pub(super) fn set_killed(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_on_wake(&self, on_wake: OnWake) {
        self.on_wake.store(on_wake as u8, Ordering::Relaxed);
    }

    pub(super) fn take_on_wake(&self) -> OnWake {
        if self.on_wake.swap(OnWake::Restart as u8, Ordering::Relaxed) == OnWake::Results as u8 {
            OnWake::Results
        } else {
            OnWake::Restart
        }
    }

    pub(super) fn context_pointer(&self) -> *mut UserContext {
        self.context.as_ptr()
    }

    /// Sets a call's results. The caller owns the context (invariant **owned**).
    pub(super) fn set_results(&self, rax: u64, rdx: u64) {
        let context = self.context_pointer();
        // SAFETY: the pointer is the live box's; by **owned** nobody else touches the registers now.
        let registers = unsafe { &mut (*context).registers };
        registers.rax = rax;
        registers.rdx = rdx;
    }

    /// The thread gets a CPU. Under the scheduler's lock.
    pub(super) fn on_cpu(&self, cpu: &Cpu, now_ns: u64) {
        self.since_ns.store(now_ns, Ordering::Relaxed);
        self.state.set(offset_of!(ThreadState, cpu), cpu.index() as u32);
    }

    /// The thread leaves its CPU with all that it has in registers. Under the scheduler's lock.
    pub(super) fn off_cpu(&self, cpu: &'static Cpu, now_ns: u64) {
        entry::detach(cpu);
        self.account(now_ns);
        let context = self.context_pointer();
        // SAFETY: the pointer is the live box's; the thread was this CPU's (invariant **owned**).
        self.state.set(offset_of!(ThreadState, registers), unsafe { (*context).registers });
    }

    /// Adds the time since it got its CPU.
    pub(super) fn account(&self, now_ns: u64) {
        let ran = now_ns.saturating_sub(self.since_ns.swap(now_ns, Ordering::Relaxed));
        let total = self.cpu_time_ns.fetch_add(ran, Ordering::Relaxed) + ran;
        self.state.set(offset_of!(ThreadState, cpu_time_ns), total);
    }

    /// Where others wait for its status to change.
    pub(super) fn status_key(&self) -> WordKey {
        WordKey { object: self.object.id, offset: BASE_OFFSET + offset_of!(ThreadState, status) as u64 }
    }
}

/// The page of a thread object that holds its `ThreadState`: written by the kernel, read by whoever maps it.
pub(crate) struct StatePage(NonNull<u8>);

// SAFETY: it is memory that readers see change anyway; each write is volatile and by whoever owns the
// thread at the time.
unsafe impl Send for StatePage {}
// SAFETY: as above.
unsafe impl Sync for StatePage {}

impl StatePage {
    /// The page at `page`.
    ///
    /// # Safety
    /// It must be a page in the direct map that stays there, and the kernel's to write, for as long as the
    /// value lives.
    pub(crate) unsafe fn new(page: NonNull<u8>) -> Self {
        Self(page)
    }

    /// Writes a field of `ThreadState`.
    pub(crate) fn set<T: Copy>(&self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= size_of::<ThreadState>(), "the field lies in the state");
        // SAFETY: within the page, by the assertion.
        let field = unsafe { self.0.add(offset) }.cast::<T>();
        // SAFETY: the page is mapped and writable (`new`); fields are aligned as in `ThreadState`, which
        // lies at a page's start.
        unsafe { field.write_volatile(value) };
    }

    /// Writes all of it.
    pub(super) fn fill(&self, state: &ThreadState) {
        self.set(0, *state);
    }

    pub(super) fn set_status(&self, status: Status) {
        // Readers that wait for the end read the rest after the status.
        core::sync::atomic::fence(Ordering::Release);
        self.set(offset_of!(ThreadState, status), status as u64);
    }

    pub(super) fn set_priority(&self, priority: u32) {
        self.set(offset_of!(ThreadState, priority), priority);
    }

    pub(super) fn set_end(&self, exit_code: u64, fault: FaultInfo, registers: Registers) {
        self.set(offset_of!(ThreadState, exit_code), exit_code);
        self.set(offset_of!(ThreadState, fault), fault);
        self.set(offset_of!(ThreadState, registers), registers);
        self.set_status(Status::Ended);
    }
}
