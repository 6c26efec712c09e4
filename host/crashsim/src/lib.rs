//! The crash simulator: what a power cut may leave, enumerated.
//!
//! [`SimMemory`] is persistent memory that records each store, flush and fence. [`Media`] replays the
//! record and knows, line by line, what may have reached media at each point under x86's rules.
//! [`check_crashes`] runs a [`Scenario`], brings the memory up from each of these images, and compares what
//! is found with what was promised; it crashes recovery too. [`mutation_run`] leaves out each flush and
//! fence in turn and reports those that nobody misses. Two regions serve tests that crash nothing: one in the heap ([`heap`]), and one that counts
//! ([`counted`]).
//!
//! What this assumes and can't see: `docs/testing.md`.
#![forbid(unsafe_code)]

pub mod counted;
mod enumerate;
mod harness;
pub mod heap;
mod image;
mod media;
mod memory;
mod mutate;
mod rng;
mod scenario;

pub use enumerate::{Choice, Effort};
pub use harness::{Config, Failure, Report, SEED_VARIABLE, check_crashes, panic_text, seed_from_environment};
pub use image::{Image, Line, Page};
pub use media::Media;
pub use memory::{Counts, Cpu, Dropped, Event, SimMemory, Step};
pub use mutate::{Mutations, mutation_run};
pub use rng::Rng;
pub use scenario::{Log, Scenario};
