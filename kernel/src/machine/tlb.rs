//! Root page tables and what CPUs remember of them.
//!
//! Each root has a *generation*, raised whenever an entry below it stopped being present or lost a right.
//! Each (root, CPU) pair has the generation up to which the CPU has flushed. It is checked whenever the
//! root is loaded; CPUs that run the root meanwhile are interrupted, others are not.
//!
//! The order that makes this right: a CPU announces that it runs a root and only then reads the
//! generation; a shooter raises the generation and only then reads who runs the root. Both are sequentially
//! consistent, so at least one of the two sees the other.

use alloc::sync::Arc;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::Error;

use super::cpu::{self, CPUS_MAX, Cpu};
use super::{apic, idt, lock};
use crate::memory::frames::{self, Claim, Frame};
use crate::memory::paging;

/// A PML4 and who has which version of it in its TLB. The lower half belongs to whoever made it; the upper
/// half is the kernel's, alike in all roots.
///
/// When it is dropped, its PML4 frame is freed; the tables below must have been taken out before. That can be later
/// than the last context's end: CPUs keep what they have loaded.
pub(crate) struct Root {
    pml4: Frame,
    /// Raised by [`shoot`].
    generation: AtomicU64,
    /// CPUs that have it in CR3, one bit each.
    running: AtomicU64,
    /// For each CPU, the generation at its last flush.
    flushed: [AtomicU64; CPUS_MAX],
    /// Process-context identifier; 0 is the kernel's and those roots' that found none left.
    pcid: u16,
}

/// What to forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    /// Everything of the lower half.
    All,
    /// So many pages from an address.
    Range {
        /// First address.
        start: u64,
        /// Number of 4 KiB pages.
        pages: u64,
    },
}

/// Pages up to which single invalidations are cheaper than reloading everything.
const RANGE_PAGES_MAX: u64 = 16;

/// PCIDs in use, one bit each; bit 0 is the kernel's.
static PCIDS: [AtomicU64; 64] = {
    let mut pcids = [const { AtomicU64::new(0) }; 64];
    pcids[0] = AtomicU64::new(1);
    pcids
};

static SHOOTDOWNS: AtomicU64 = AtomicU64::new(0);

/// Shootdowns since boot that had to interrupt another CPU.
#[must_use]
pub(crate) fn shootdowns() -> u64 {
    SHOOTDOWNS.load(Ordering::Relaxed)
}

impl Root {
    /// A root with an empty lower half.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn new() -> Result<Self, Error> {
        let pml4 = frames::allocate_zeroed(Claim::User).ok_or(Error::OutOfMemory)?;
        paging::copy_kernel_half(pml4);
        Ok(Self {
            pml4,
            generation: AtomicU64::new(1),
            running: AtomicU64::new(0),
            flushed: [const { AtomicU64::new(0) }; CPUS_MAX],
            pcid: if super::features::get().pcid { take_pcid() } else { 0 },
        })
    }

    /// The PML4's frame.
    #[must_use]
    pub(crate) fn pml4(&self) -> Frame {
        self.pml4
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        debug_assert_eq!(self.running.load(Ordering::Relaxed), 0, "a CPU keeps the root that it runs");
        if self.pcid != 0 {
            // Partner: `take_pcid`. CPUs may still have entries of it; the next owner's `flushed` is 0, so each
            // CPU flushes at the first load.
            PCIDS[usize::from(self.pcid / 64)].fetch_and(!(1 << (self.pcid % 64)), Ordering::Release);
        }
        frames::free(self.pml4);
    }
}

fn take_pcid() -> u16 {
    for (index, word) in (0u16..).zip(&PCIDS) {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != u64::MAX {
            let bit = bits.trailing_ones();
            match word.compare_exchange(bits, bits | 1 << bit, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return index * 64 + bit as u16,
                Err(now) => bits = now,
            }
        }
    }
    0
}

/// Bit 63 of a value for CR3: keep what the TLB has under this PCID.
const KEEP: u64 = 1 << 63;

/// Makes `root` (the kernel's own for None) the CPU's root. The CPU keeps it alive while it is loaded.
pub(crate) fn load(cpu: &'static Cpu, root: Option<&Arc<Root>>) {
    let old = cpu.root.take();
    if old.as_ref().map(Arc::as_ptr) == root.map(Arc::as_ptr) {
        cpu.root.set(old);
        return;
    }
    match root {
        None => write_cr3(paging::kernel_root().address()),
        Some(root) => {
            root.running.fetch_or(1 << cpu.index(), Ordering::SeqCst);
            let generation = root.generation.load(Ordering::SeqCst);
            let seen = &root.flushed[cpu.index()];
            let keep = root.pcid != 0 && seen.load(Ordering::Relaxed) == generation;
            write_cr3(root.pml4.address() | u64::from(root.pcid) | if keep { KEEP } else { 0 });
            // Partner: the acquire load in `is_clean`.
            seen.store(generation, Ordering::Release);
        }
    }
    cpu.root.set(root.cloned());
    if let Some(old) = old {
        old.running.fetch_and(!(1 << cpu.index()), Ordering::SeqCst);
    }
}

/// Loads the kernel's own root for the first time, instead of the boot tables.
pub(crate) fn load_first(root: Frame) {
    write_cr3(root.address());
}

fn write_cr3(value: u64) {
    // SAFETY: the value names a PML4 whose upper half is the kernel's, so the kernel goes on where it is; PCID and
    // KEEP are used only where CR4.PCIDE is set. The lower half holds user pages alone.
    unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
}

fn read_cr3() -> u64 {
    let value;
    // SAFETY: reads.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nostack, preserves_flags, nomem)) };
    value
}

/// Forgets this CPU's translation of one page: kernel pages, and user pages of the root that it runs.
pub(crate) fn flush_page(address: u64) {
    // SAFETY: dropping a cached translation is always allowed.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Forgets all user translations of the root that this CPU runs.
fn flush_user() {
    write_cr3(read_cr3());
}

/// Makes every CPU forget translations of these roots, after their entries have been changed. When it returns,
/// no CPU uses an old one.
pub(crate) fn shoot(roots: &[&Root], flush: Flush) {
    let me = cpu::current();
    let my_bit = 1 << me.index();
    let mut targets = 0;
    for root in roots {
        let before = root.generation.fetch_add(1, Ordering::SeqCst);
        let running = root.running.load(Ordering::SeqCst);
        if running & my_bit != 0 {
            flush_here(root, me, before, flush);
        }
        targets |= running & !my_bit;
    }
    if targets == 0 {
        return;
    }
    SHOOTDOWNS.fetch_add(1, Ordering::Relaxed);
    for index in (0..CPUS_MAX).filter(|index| targets >> index & 1 != 0) {
        let cpu = cpu::get(index).expect("a CPU that runs a root has started");
        // Partner: the swap in `serve`.
        cpu.shootdown.store(true, Ordering::SeqCst);
        apic::interrupt(cpu.apic_id(), idt::SHOOTDOWN);
    }
    for root in roots {
        let wanted = root.generation.load(Ordering::SeqCst);
        for index in (0..CPUS_MAX).filter(|index| targets >> index & 1 != 0) {
            while !root.is_clean(index, wanted) {
                lock::relax();
            }
        }
    }
}

/// Flushes on this CPU, which runs `root`. A range is enough only if nothing else is outstanding.
fn flush_here(root: &Root, me: &Cpu, before: u64, flush: Flush) {
    let seen = &root.flushed[me.index()];
    match flush {
        Flush::Range { start, pages }
            if pages <= RANGE_PAGES_MAX && seen.load(Ordering::Relaxed) == before =>
        {
            for page in 0..pages {
                flush_page(start + page * 4096);
            }
        }
        _ => flush_user(),
    }
    seen.store(before + 1, Ordering::Release);
}

impl Root {
    /// Whether a CPU has flushed up to a generation, or will before it uses the root again.
    fn is_clean(&self, cpu: usize, generation: u64) -> bool {
        // Partners: the release stores of `flushed`; `running` as in the module's docs.
        self.flushed[cpu].load(Ordering::Acquire) >= generation
            || self.running.load(Ordering::SeqCst) >> cpu & 1 == 0
    }
}

/// Does what other CPUs' [`shoot`] wait for. Called by the interrupt, and by every loop that waits.
pub(super) fn serve() {
    if !cpu::installed() {
        return;
    }
    let me = cpu::current();
    if !me.shootdown.load(Ordering::Relaxed) || !me.shootdown.swap(false, Ordering::SeqCst) {
        return;
    }
    let root = me.root.take();
    if let Some(root) = &root {
        let generation = root.generation.load(Ordering::SeqCst);
        flush_user();
        root.flushed[me.index()].store(generation, Ordering::Release);
    }
    me.root.set(root);
}
