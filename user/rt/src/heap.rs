//! The heap: all of the object in the heap's slot, given out by Talc.

#[cfg(target_os = "none")]
#[global_allocator]
static HEAP: talc::TalcLock<crate::sync::RawLock, talc::source::Claim> = {
    use twizzler_abi::address::{SLOT_BYTES, band};
    use twizzler_abi::object::BASE_OFFSET;
    let start = (band::HEAP.base() + BASE_OFFSET) as *mut u8;
    // SAFETY: the heap's object is mapped there before the first allocation and as long as the program runs;
    // nothing else uses the slot.
    talc::TalcLock::new(unsafe { talc::source::Claim::new(start, (SLOT_BYTES - BASE_OFFSET) as usize) })
};
