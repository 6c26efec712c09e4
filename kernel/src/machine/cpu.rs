//! What each CPU has of its own, found through GS.

use alloc::sync::Arc;
use core::cell::Cell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use x86_64::registers::model_specific::Msr;

use super::entry::UserContext;
use super::tlb::Root;

/// Most CPUs that are used.
pub(crate) const CPUS_MAX: usize = 64;

const MSR_GS_BASE: u32 = 0xc000_0101;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// One CPU. Cells are touched by the CPU itself alone (in the kernel nothing preempts it); what others
/// may touch is atomic.
#[repr(C)]
pub(crate) struct Cpu {
    itself: *const Cpu,
    /// Top of the kernel stack.
    stack_top: u64,
    /// User RSP or RAX while an entry has no free register.
    scratch: Cell<u64>,
    /// Where entries save user registers: the context that is current, or null.
    pub(super) current: Cell<*mut UserContext>,
    index: usize,
    apic_id: u32,
    /// The root in CR3; None: the kernel's own.
    pub(super) root: Cell<Option<Arc<Root>>>,
    /// The page table entry of this CPU's write window, and the window's address.
    pub(crate) window: Cell<Window>,
    /// Levels of the locks that this CPU holds, one bit each.
    pub(super) lock_levels: Cell<u64>,
    /// Another CPU waits until this one has looked at its root's generation.
    pub(super) shootdown: AtomicBool,
    /// Time that the local timer is set to.
    pub(super) deadline: Cell<u64>,
    /// Of NVM: cache-line flushes, fences and bytes written by this CPU.
    pub(crate) nvm: NvmCounters,
}

/// This CPU's write window, see [`crate::memory::window`].
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) entry: *mut u64,
    pub(crate) address: *mut u8,
}

/// Counted by one CPU, read by all.
#[derive(Default)]
pub(crate) struct NvmCounters {
    pub(crate) flushes: Counter,
    pub(crate) fences: Counter,
    pub(crate) written_bytes: Counter,
}

/// A count that only its own CPU adds to.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// SAFETY: the cells are touched only by the CPU that the value describes (invariant of the type's docs);
// the pointers are stable addresses, and everything else is atomic or never changes.
unsafe impl Sync for Cpu {}

/// Offsets for the entry code.
pub(super) const STACK_TOP: usize = offset_of!(Cpu, stack_top);
pub(super) const SCRATCH: usize = offset_of!(Cpu, scratch);
pub(super) const CURRENT: usize = offset_of!(Cpu, current);

static CPUS: [AtomicPtr<Cpu>; CPUS_MAX] = [const { AtomicPtr::new(ptr::null_mut()) }; CPUS_MAX];
static COUNT: AtomicU32 = AtomicU32::new(0);

impl Cpu {
    pub(super) fn new(index: usize, apic_id: u32, stack_top: u64, window: Window) -> Self {
        Self {
            itself: ptr::null(),
            stack_top,
            scratch: Cell::new(0),
            current: Cell::new(ptr::null_mut()),
            index,
            apic_id,
            root: Cell::new(None),
            window: Cell::new(window),
            lock_levels: Cell::new(0),
            shootdown: AtomicBool::new(false),
            deadline: Cell::new(u64::MAX),
            nvm: NvmCounters::default(),
        }
    }

    /// The CPU's number, from 0 without gaps. The boot CPU is 0.
    #[must_use]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Its local APIC's ID.
    #[must_use]
    pub(crate) fn apic_id(&self) -> u32 {
        self.apic_id
    }

    /// Highest address of its kernel stack.
    #[must_use]
    pub(crate) fn stack_top(&self) -> u64 {
        self.stack_top
    }
}

/// The CPU that runs this.
///
/// # Panics
/// In debug builds, before [`install`].
#[must_use]
pub(crate) fn current() -> &'static Cpu {
    let pointer: *const Cpu;
    // SAFETY: invariant **gs**: GS's first word is the address of this CPU's `Cpu`. Reads memory only.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) pointer, options(nostack, preserves_flags, readonly))
    };
    debug_assert!(!pointer.is_null());
    // SAFETY: `install` stored the address of a leaked `Cpu`.
    unsafe { &*pointer }
}

/// The CPU with this number, once it has started.
#[must_use]
pub(crate) fn get(index: usize) -> Option<&'static Cpu> {
    let pointer = CPUS.get(index)?.load(Ordering::Acquire);
    // SAFETY: null, or the address of a leaked `Cpu`, published by `install`'s release store.
    unsafe { pointer.as_ref() }
}

/// CPUs that have started.
#[must_use]
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Acquire) as usize
}

/// All CPUs that have started.
pub(crate) fn all() -> impl Iterator<Item = &'static Cpu> {
    (0..count()).filter_map(get)
}

/// Makes `cpu` the one that GS finds on this CPU. To be called before anything that might take a lock.
pub(super) fn install(cpu: &'static mut Cpu) -> &'static Cpu {
    cpu.itself = cpu;
    let cpu: &'static Cpu = cpu;
    let address = ptr::from_ref(cpu) as u64;
    // SAFETY: the kernel uses GS only for this; nothing has used it on this CPU before.
    unsafe { Msr::new(MSR_GS_BASE).write(address) };
    // SAFETY: what user code will see as GS base; it has none yet.
    unsafe { Msr::new(MSR_KERNEL_GS_BASE).write(0) };
    cpu
}

/// Tells the others of a CPU that is ready for interrupts.
pub(super) fn announce(cpu: &'static Cpu) {
    CPUS[cpu.index].store(ptr::from_ref(cpu).cast_mut(), Ordering::Release);
    COUNT.fetch_max(cpu.index as u32 + 1, Ordering::AcqRel);
}

/// Sets GS again, where it may be a program's.
pub(super) fn repair(apic_id: u32) {
    if let Some(cpu) = all().find(|cpu| cpu.apic_id == apic_id) {
        // SAFETY: what `install` wrote on this CPU.
        unsafe { Msr::new(MSR_GS_BASE).write(ptr::from_ref(cpu) as u64) };
    }
}

/// Whether GS of this CPU has been set up: false only early on the boot CPU.
pub(super) fn installed() -> bool {
    // The boot CPU installs itself before any other CPU starts, and others before they take a lock.
    COUNT.load(Ordering::Relaxed) > 0
}

/// This CPU's number for messages, which may be wanted before CPUs have one.
pub(crate) fn index_or_0() -> usize {
    if installed() { current().index() } else { 0 }
}
