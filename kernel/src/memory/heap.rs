//! The kernel's heap: power-of-two classes carved from frames, and whole blocks of frames above.
//!
//! Every operation takes a constant number of steps. Frames of small classes stay with their class: what was needed
//! once will be needed again. When frames run out, allocation fails; fallible callers see it as an error.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use super::frames::{self, Claim, FRAME_BYTES, Frame};
use crate::machine::lock::{Lock, level};

/// Smallest class, as a power of two: 16 bytes.
const CLASS_MIN: u32 = 4;
/// Smallest size that takes frames of its own, as a power of two.
const CLASS_END: u32 = 12;
const CLASSES: usize = (CLASS_END - CLASS_MIN) as usize;

struct Heap {
    /// First free piece of each class; a free piece's first word points to the next.
    free: [*mut *mut u8; CLASSES],
}

// SAFETY: the pointers lead to free memory that belongs to the heap alone.
unsafe impl Send for Heap {}

static HEAP: Lock<Heap, { level::HEAP }> = Lock::new(Heap { free: [ptr::null_mut(); CLASSES] });

/// The global allocator.
struct KernelHeap;

#[global_allocator]
static GLOBAL: KernelHeap = KernelHeap;

/// The power of two that holds a layout.
fn class(layout: Layout) -> u32 {
    layout.size().max(layout.align()).next_power_of_two().trailing_zeros().max(CLASS_MIN)
}

// SAFETY: each piece is given out once until it comes back, is as large and aligned as the layout's power of two, and
// stays mapped. Nothing here panics but on a free of what wasn't given out.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let class = class(layout);
        if class < CLASS_END {
            return HEAP.lock().take(class);
        }
        match u8::try_from(class - CLASS_END)
            .ok()
            .and_then(|order| frames::allocate_block(order, Claim::Kernel))
        {
            Some(frame) => frame.pointer(),
            None => ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let class = class(layout);
        if class < CLASS_END {
            HEAP.lock().put(pointer, class);
            return;
        }
        let address = pointer as u64 - super::direct::BASE;
        frames::free_block(Frame::of(address), (class - CLASS_END) as u8);
    }
}

impl Heap {
    fn take(&mut self, class: u32) -> *mut u8 {
        let index = (class - CLASS_MIN) as usize;
        if self.free[index].is_null() {
            let Some(frame) = frames::allocate(Claim::Kernel) else { return ptr::null_mut() };
            let start = frame.pointer();
            for piece in (0..FRAME_BYTES as usize >> class).rev() {
                // SAFETY: within the frame, which is the heap's now.
                let pointer = unsafe { start.add(piece << class) };
                self.put(pointer, class);
            }
        }
        let piece = self.free[index];
        // SAFETY: a free piece, whose first word is the next one's address.
        self.free[index] = unsafe { piece.read() }.cast();
        piece.cast()
    }

    fn put(&mut self, pointer: *mut u8, class: u32) {
        let index = (class - CLASS_MIN) as usize;
        let piece = pointer.cast::<*mut u8>();
        // SAFETY: the piece comes back to the heap: nobody else uses it. It holds at least 16 bytes, aligned.
        unsafe { piece.write(self.free[index].cast()) };
        self.free[index] = piece;
    }
}
