//! Physical memory: frames, the kernel's own mappings, DRAM and NVM as regions.
//!
//! The upper half of the address space, alike in all roots:
//!
//! | from | what | rights |
//! |---|---|---|
//! | `0xffff_8000_0000_0000` | direct map ([`direct`]) | DRAM: read, write; kernel image, firmware, NVM: read |
//! | `0xffff_f000_0000_0000` | stacks, each above a page that is not mapped ([`stacks`]) | read, write |
//! | `0xffff_f040_0000_0000` | write windows, one page for each CPU ([`window`]) | write, while one is open |
//! | `0xffff_ffff_8000_0000` | kernel image | by section |
//!
//! The heap ([`heap`]) takes blocks of frames where the direct map has them.

pub(crate) mod direct;
pub(crate) mod dram;
pub(crate) mod frames;
pub(crate) mod heap;
pub(crate) mod nvm;
pub(crate) mod paging;
pub(crate) mod stacks;
pub(crate) mod start;
pub(crate) mod window;
