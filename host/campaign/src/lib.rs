//! What is crash-tested and run under the MMU model, and long runs of both.

pub mod hooked;
pub mod lists;
pub mod mmu;
pub mod objects;
pub mod programs;
pub mod runs;
pub mod session;
pub mod store;

use std::time::Duration;

use runs::{Kind, campaign};

/// Cuts off random work from `seed` on for that long: store operations for one half, sessions of commands for the
/// other. Says what was done.
///
/// # Errors
/// What was found, and the command that replays it.
pub fn crash(seed: u64, seconds: u64) -> Result<String, String> {
    let half = Duration::from_secs(seconds) / 2;
    let store = campaign(Kind::Store, seed, half)?;
    let sessions = campaign(Kind::Sessions, seed, half)?;
    Ok(format!("{store}\n{sessions}"))
}

/// Runs random tree operations under the MMU model from `seed` on for that long. Says what was done.
///
/// # Errors
/// What was found, and the command that replays it.
pub fn mmu(seed: u64, seconds: u64) -> Result<String, String> {
    campaign(Kind::Mmu, seed, Duration::from_secs(seconds))
}
