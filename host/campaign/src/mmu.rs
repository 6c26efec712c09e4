//! The store's tree operations under the MMU model.
//!
//! Objects are mapped in several contexts of several CPUs. Between any two steps of an operation other CPUs access
//! pages, switch contexts and cache what they come by. Checked, at every access and after every operation:
//! nobody reaches a frame that is free, a table, or another page's; metadata can't be written; a present
//! entry changes only by way of a shootdown; an entry becomes present only when it is durable; hardware
//! never has to write to a table; what CPUs have cached is what the tables say; no frame is lost.

mod cpus;
mod frames;
mod ledger;
mod racing;
mod world;

use std::fmt;

use twizzler_crashsim::{Rng, SEED_VARIABLE};

pub use cpus::Flaw;
use world::{Memories, World};

/// Something that must never happen, happened.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What.
    pub what: Vec<String>,
    /// The operations before it, the last one last.
    pub operations: Vec<String>,
    /// The seed of the run.
    pub seed: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what.join("\n"))?;
        writeln!(f, "  after: {}", self.operations.join("; "))?;
        write!(f, "  replay: {SEED_VARIABLE}={} and the same test or campaign", self.seed)
    }
}

impl std::error::Error for Violation {}

/// Operations that a violation tells of.
const HISTORY: usize = 6;

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed of everything.
    pub seed: u64,
    /// How many operations.
    pub operations: u64,
    /// What is wrong on purpose.
    pub flaw: Flaw,
    /// Before one operation in so many, all CPUs cache what they can of the pages that may be concerned.
    pub warm_one_in: u64,
}

/// Runs random operations; returns the shootdowns that they took, in words.
///
/// # Errors
/// The first violation.
pub fn run(plan: Plan) -> Result<Vec<String>, Violation> {
    let Plan { seed, operations, flaw, warm_one_in } = plan;
    let rng = Rng::new(seed);
    let memories = Memories::new();
    let cpus = memories.cpus(rng.fork(1), flaw);
    let mut world = World::new(&memories, &cpus, warm_one_in, rng.fork(2));
    let mut history: Vec<String> = Vec::new();
    let check = |history: &[String]| {
        let what = cpus.ledger.borrow().violations().to_vec();
        let operations = history[history.len().saturating_sub(HISTORY)..].to_vec();
        if what.is_empty() { Ok(()) } else { Err(Violation { what, operations, seed }) }
    };
    for number in 0..operations {
        history.push(world.step());
        if number % 16 == 0 {
            cpus.check_tables();
        }
        check(&history)?;
    }
    world.finish();
    history.push("delete all".into());
    check(&history)?;
    Ok(cpus.shootdowns())
}

/// A page number: mostly among the first, sometimes where tables begin and end, sometimes far out.
fn random_page(rng: &mut Rng) -> u64 {
    match rng.below(8) {
        0..5 => rng.below(24),
        5 => 504 + rng.below(16),
        6 => rng.below(1536),
        _ => rng.below(4) * 512 + rng.below(4),
    }
}
