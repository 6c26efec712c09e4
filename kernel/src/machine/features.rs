//! What this machine's CPUs can do, and switching it on.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use twizzler_pmem::cache::WriteBack;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::xcontrol::XCr0Flags;

/// How vector state is saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VectorSave {
    /// XSAVEOPT and XRSTOR.
    XsaveOpt,
    /// XSAVE and XRSTOR.
    Xsave,
    /// FXSAVE and FXRSTOR: x87 and SSE only.
    Fxsave,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are CPUID's names")]
pub(crate) struct Features {
    pub(crate) smep: bool,
    pub(crate) smap: bool,
    pub(crate) umip: bool,
    pub(crate) fsgsbase: bool,
    pub(crate) pcid: bool,
    pub(crate) x2apic: bool,
    pub(crate) tsc_deadline: bool,
    pub(crate) rdrand: bool,
    pub(crate) gib_pages: bool,
    pub(crate) write_back: WriteBack,
    pub(crate) vector_save: VectorSave,
    /// Components of vector state that are switched on.
    pub(crate) xcr0: u64,
    /// Bytes of a save area.
    pub(crate) vector_bytes: usize,
    /// TSC frequency as CPUID (or the hypervisor) gives it; 0: it doesn't.
    pub(crate) tsc_hz: u64,
}

static FEATURES: Once<Features> = Once::new();
static SMAP: AtomicBool = AtomicBool::new(false);

/// This machine's features.
///
/// # Panics
/// Before [`detect`].
#[must_use]
pub(crate) fn get() -> &'static Features {
    FEATURES.get().expect("features are detected first")
}

/// Whether user memory may only be touched between `stac` and `clac`.
#[must_use]
pub(crate) fn smap() -> bool {
    SMAP.load(Ordering::Relaxed)
}

/// Asks the boot CPU's CPUID. The other CPUs are taken to be alike.
pub(super) fn detect() {
    let max = __cpuid(0).eax;
    let leaf =
        |number: u32, sub: u32| if number <= max { __cpuid_count(number, sub) } else { __cpuid_count(0, 0) };
    let one = leaf(1, 0);
    let (seven_b, seven_c) = if max >= 7 { (leaf(7, 0).ebx, leaf(7, 0).ecx) } else { (0, 0) };
    let extended = if __cpuid(0x8000_0000).eax >= 0x8000_0001 { __cpuid(0x8000_0001).edx } else { 0 };
    let bit = |register: u32, number: u32| register >> number & 1 != 0;

    let xsave = bit(one.ecx, 26) && max >= 0xd;
    let (vector_save, xcr0, vector_bytes) = if xsave { xsave_state() } else { (VectorSave::Fxsave, 0, 512) };
    FEATURES.call_once(|| Features {
        smep: bit(seven_b, 7),
        smap: bit(seven_b, 20),
        umip: bit(seven_c, 2),
        fsgsbase: bit(seven_b, 0),
        pcid: bit(one.ecx, 17),
        x2apic: bit(one.ecx, 21),
        tsc_deadline: bit(one.ecx, 24),
        rdrand: bit(one.ecx, 30),
        gib_pages: bit(extended, 26),
        write_back: WriteBack::detect(),
        vector_save,
        xcr0,
        vector_bytes,
        tsc_hz: tsc_hz(max, bit(one.ecx, 31)),
    });
}

/// What XSAVE can save of x87, SSE, AVX and AVX-512, and how large that is.
fn xsave_state() -> (VectorSave, u64, usize) {
    let supported = u64::from(__cpuid_count(0xd, 0).eax);
    let mut wanted = XCr0Flags::X87 | XCr0Flags::SSE;
    let avx = XCr0Flags::AVX;
    let avx512 = XCr0Flags::OPMASK | XCr0Flags::ZMM_HI256 | XCr0Flags::HI16_ZMM;
    for more in [avx, avx | avx512] {
        if supported & more.bits() == more.bits() {
            wanted |= more;
        }
    }
    // Components lie at fixed offsets in the standard format; the area ends behind the last one.
    let end = |component: u32| {
        let leaf = __cpuid_count(0xd, component);
        (leaf.ebx + leaf.eax) as usize
    };
    let bytes = (2..63).filter(|&c| wanted.bits() >> c & 1 != 0).map(end).fold(512 + 64, usize::max);
    let save = if __cpuid_count(0xd, 1).eax & 1 != 0 { VectorSave::XsaveOpt } else { VectorSave::Xsave };
    (save, wanted.bits(), bytes)
}

/// TSC frequency from leaf 0x15, or from a hypervisor's timing leaf.
fn tsc_hz(max: u32, hypervisor: bool) -> u64 {
    if max >= 0x15 {
        let leaf = __cpuid(0x15);
        if leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0 {
            return u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax);
        }
    }
    if hypervisor && (0x4000_0010..0x4000_1000).contains(&__cpuid(0x4000_0000).eax) {
        return u64::from(__cpuid(0x4000_0010).eax) * 1000;
    }
    0
}

/// Switches on, on this CPU, what [`detect`] found. FSGSBASE lets programs set their own bases.
pub(super) fn enable() {
    let features = get();
    let mut cr0 = Cr0::read();
    cr0.insert(Cr0Flags::WRITE_PROTECT | Cr0Flags::NUMERIC_ERROR | Cr0Flags::MONITOR_COPROCESSOR);
    cr0.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
    cr0.remove(Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH);
    // SAFETY: write protection, and x87 and SSE without traps: nothing that kernel code relies on to be otherwise.
    unsafe { Cr0::write(cr0) };

    let mut cr4 = Cr4::read();
    cr4.insert(Cr4Flags::PAGE_GLOBAL | Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, features.smep);
    cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, features.smap);
    cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, features.umip);
    cr4.set(Cr4Flags::FSGSBASE, features.fsgsbase);
    cr4.set(Cr4Flags::OSXSAVE, features.vector_save != VectorSave::Fxsave);
    cr4.set(Cr4Flags::PCID, features.pcid);
    // SAFETY: each bit that needs it is supported by the CPU; CR3's low bits are zero, as setting PCID asks;
    // the kernel has no mapping that user code can reach, so SMEP and SMAP don't stop it.
    unsafe { Cr4::write(cr4) };
    if features.vector_save != VectorSave::Fxsave {
        // SAFETY: `xcr0` is a subset of what CPUID lists, has x87 and SSE, and AVX-512 only together with AVX.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") features.xcr0 as u32, in("edx") (features.xcr0 >> 32) as u32,
                options(nomem, nostack, preserves_flags));
        }
    }
    SMAP.store(features.smap, Ordering::Relaxed);
}
