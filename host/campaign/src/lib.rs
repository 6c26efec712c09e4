//! What is crash-tested and run under the MMU model, and long runs of both.

pub mod mmu;
pub mod objects;
pub mod store;
