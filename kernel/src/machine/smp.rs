//! Starting the other CPUs, and waking them.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use super::cpu::{self, CPUS_MAX, Cpu};
use super::segments::{self, StackTops};
use super::{apic, boot, clock, entry, features, idt, timer};
use crate::memory::{direct, paging, stacks, window};

/// How long a CPU may take to appear.
const APPEAR_NS: u64 = 200_000_000;

#[unsafe(no_mangle)]
static trampoline_root: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static trampoline_stack: AtomicU64 = AtomicU64::new(0);
/// What the starting CPU takes over.
static STARTING: AtomicPtr<Start> = AtomicPtr::new(core::ptr::null_mut());
/// Set when all CPUs may schedule.
static GO: AtomicBool = AtomicBool::new(false);

struct Start {
    cpu: Cpu,
    stacks: StackTops,
}

// SAFETY: labels of the trampoline; only their addresses are taken.
unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
}

/// Makes what a CPU needs before it runs.
fn prepare(index: usize, apic_id: u32) -> Option<&'static mut Start> {
    let stacks = stacks::make(index)?;
    let cpu = Cpu::new(index, apic_id, stacks.kernel, window::make(index));
    Some(Box::leak(Box::new(Start { cpu, stacks })))
}

/// Makes this CPU, the one that booted, number 0. It is not on its kernel stack yet.
pub(super) fn init_boot_cpu() {
    let start = prepare(0, apic::id()).expect("memory for the boot CPU");
    install(start);
}

fn install(start: &'static mut Start) {
    let cpu = cpu::install(&mut start.cpu);
    segments::load(start.stacks);
    idt::load();
    cpu::announce(cpu);
}

/// Starts the CPUs with these APIC IDs, one after the other. Those that don't appear are left out.
pub(super) fn start(apic_ids: impl Iterator<Item = u32>) {
    let (from, end) = (&raw const trampoline_start, &raw const trampoline_end);
    let bytes = end as usize - from as usize;
    // SAFETY: the trampoline's code goes to its page below 1 MiB, which nobody else uses.
    unsafe { core::ptr::copy_nonoverlapping(from, direct::pointer(boot::TRAMPOLINE), bytes) };
    trampoline_root.store(paging::kernel_root().address(), Ordering::Relaxed);
    for apic_id in apic_ids.filter(|&id| id != apic::id()) {
        let index = cpu::count();
        if index == CPUS_MAX {
            log::warn!("cpus: more than {CPUS_MAX}; the others stay off");
            break;
        }
        let Some(start) = prepare(index, apic_id) else {
            log::warn!("cpus: no memory for another");
            break;
        };
        trampoline_stack.store(start.stacks.kernel, Ordering::Relaxed);
        // Partner: the acquire load in `ap_main`.
        STARTING.store(start, Ordering::Release);
        if !start_one(apic_id, index) {
            log::warn!("cpus: the one with APIC ID {apic_id} does not start");
            // Its stack and place must not be given to another while it might still come.
            break;
        }
    }
    log::info!("cpus: {}", cpu::count());
}

fn start_one(apic_id: u32, index: usize) -> bool {
    let appeared = || cpu::count() > index;
    apic::send_init(apic_id);
    clock::spin_ns(200_000);
    for _ in 0..2 {
        apic::send_start(apic_id, boot::TRAMPOLINE);
        let end = clock::now_ns() + APPEAR_NS;
        while clock::now_ns() < end {
            if appeared() {
                return true;
            }
            core::hint::spin_loop();
        }
    }
    appeared()
}

/// Where the trampoline leads to, on the new CPU's own stack.
#[unsafe(no_mangle)]
extern "C" fn ap_main() -> ! {
    // SAFETY: the boot CPU stored a leaked `Start` for this CPU alone, and waits until it is taken.
    install(unsafe { &mut *STARTING.load(Ordering::Acquire) });
    features::enable();
    apic::enable();
    timer::init();
    let mut done = 0;
    // Partner: the release store in `go`.
    while !GO.load(Ordering::Acquire) {
        if ROUND.load(Ordering::Acquire) != done {
            done += 1;
            let job = JOB.load(Ordering::Relaxed);
            // SAFETY: `everywhere` stored a function of this type before it began the round.
            let job = unsafe { core::mem::transmute::<*mut (), fn(&'static Cpu)>(job) };
            job(cpu::current());
            FINISHED.fetch_add(1, Ordering::Release);
        } else {
            // Sleeps rather than spins: an emulator's other CPUs may need the host's.
            x86_64::instructions::interrupts::enable_and_hlt();
            x86_64::instructions::interrupts::disable();
        }
    }
    entry::run(cpu::current())
}

/// What [`everywhere`] has other CPUs do: the function, the number of the call, and how many are through with it.
static JOB: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
static ROUND: AtomicU64 = AtomicU64::new(0);
static FINISHED: AtomicUsize = AtomicUsize::new(0);

/// Calls a function on every CPU at the same time, and returns when all are through. For the boot CPU, before threads run.
pub(crate) fn everywhere(job: fn(&'static Cpu)) {
    debug_assert!(!GO.load(Ordering::Relaxed), "the other CPUs run threads");
    FINISHED.store(0, Ordering::Relaxed);
    JOB.store(job as *mut (), Ordering::Relaxed);
    // Partner: the acquire load in `ap_main`.
    ROUND.fetch_add(1, Ordering::Release);
    wake_others();
    job(cpu::current());
    // Partner: the release increment in `ap_main`.
    while FINISHED.load(Ordering::Acquire) + 1 < cpu::count() {
        super::lock::relax();
    }
}

/// Ends the sleep of CPUs that wait in [`ap_main`].
fn wake_others() {
    for cpu in cpu::all().filter(|cpu| cpu.index() != cpu::current().index()) {
        apic::interrupt(cpu.apic_id(), idt::SHOOTDOWN);
    }
}

/// Lets all CPUs schedule.
pub(super) fn go() {
    GO.store(true, Ordering::Release);
    wake_others();
}

/// Makes another CPU call [`entry::Hooks::interrupt`] with [`entry::Interrupt::Reschedule`], soon.
pub(crate) fn kick(index: usize) {
    if let Some(cpu) = cpu::get(index) {
        apic::interrupt(cpu.apic_id(), idt::RESCHEDULE);
    }
}
