//! Vector state: x87, SSE, AVX registers of user threads. The kernel itself uses none of them.
//!
//! XSAVE's standard format where the CPU has it, FXSAVE's otherwise. Source: Intel SDM volume 1, chapter 13.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::arch::asm;
use core::ptr::NonNull;
use core::slice;

use twizzler_abi::Error;

use super::features::{self, VectorSave};

const ALIGN_BYTES: usize = 64;
/// Offset of the XSAVE header, and of what follows it.
const HEADER: usize = 512;
const FCW: usize = 0;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;

/// A save area.
pub(super) struct VectorState {
    area: NonNull<u8>,
}

// SAFETY: the area is owned memory, reached through the value alone.
unsafe impl Send for VectorState {}

/// Bytes of a save area on this machine.
#[must_use]
pub(crate) fn area_bytes() -> usize {
    features::get().vector_bytes
}

fn layout() -> Layout {
    Layout::from_size_align(area_bytes(), ALIGN_BYTES).expect("area sizes are small")
}

impl VectorState {
    /// An area in the initial state.
    pub(super) fn new() -> Result<Self, Error> {
        // SAFETY: the layout's size is not zero: at least 512.
        let area = NonNull::new(unsafe { alloc_zeroed(layout()) }).ok_or(Error::OutOfMemory)?;
        let mut state = Self { area };
        state.reset();
        Ok(state)
    }

    pub(super) fn reset(&mut self) {
        let bytes = self.bytes_mut();
        bytes.fill(0);
        bytes[FCW..FCW + 2].copy_from_slice(&0x37fu16.to_le_bytes());
        bytes[MXCSR..MXCSR + 4].copy_from_slice(&0x1f80u32.to_le_bytes());
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the area has this size, is initialised (zeroed, then only written) and owned.
        unsafe { slice::from_raw_parts(self.area.as_ptr(), area_bytes()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `&mut self` makes it exclusive.
        unsafe { slice::from_raw_parts_mut(self.area.as_ptr(), area_bytes()) }
    }

    /// Takes over a state that user code may have written: whatever XRSTOR would reject is cleared.
    pub(super) fn set(&mut self, state: &[u8]) -> Result<(), Error> {
        let bytes = self.bytes_mut();
        if state.len() != bytes.len() {
            return Err(Error::InvalidArgument);
        }
        let word =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let mask = match word(bytes, MXCSR_MASK) {
            0 => 0xffbf,
            mask => mask,
        };
        bytes.copy_from_slice(state);
        let mxcsr = word(state, MXCSR) & mask;
        bytes[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
        bytes[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&mask.to_le_bytes());
        if bytes.len() > HEADER {
            let components = u64::from_le_bytes(state[HEADER..HEADER + 8].try_into().expect("8 bytes"));
            bytes[HEADER..HEADER + 64].fill(0);
            let allowed = components & features::get().xcr0;
            bytes[HEADER..HEADER + 8].copy_from_slice(&allowed.to_le_bytes());
        }
        Ok(())
    }

    /// Stores the CPU's state here.
    pub(super) fn save(&mut self) {
        let area = self.area.as_ptr();
        match features::get().vector_save {
            // SAFETY: the area is 64-byte aligned, as large as CPUID says for XCR0, and ours alone.
            VectorSave::XsaveOpt => unsafe {
                asm!("xsaveopt64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
            },
            // SAFETY: as above.
            VectorSave::Xsave => unsafe {
                asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
            },
            // SAFETY: the area is 16-byte aligned and has 512 bytes.
            VectorSave::Fxsave => unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack)) },
        }
    }

    /// Loads the CPU's state from here.
    pub(super) fn load(&self) {
        let area = self.area.as_ptr();
        match features::get().vector_save {
            // SAFETY: the area was written by `save`, `reset` or `set`, which clears all that XRSTOR would fault on.
            // The kernel is compiled without vector registers.
            VectorSave::XsaveOpt | VectorSave::Xsave => unsafe {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
            },
            // SAFETY: as above, for FXRSTOR: reserved MXCSR bits are clear.
            VectorSave::Fxsave => unsafe { asm!("fxrstor64 [{}]", in(reg) area, options(nostack)) },
        }
    }
}

impl Drop for VectorState {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.area.as_ptr(), layout()) };
    }
}
