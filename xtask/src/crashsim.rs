//! `crashsim`: long runs of the crash simulator and of the MMU model; the tests hold short ones.

use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use twizzler_campaign::runs::{Kind, campaign};

use crate::progress::say;
use crate::random::Random;

/// Arguments of `crashsim`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// What is run: store, sessions or mmu [default: all]
    #[arg(value_parser = kind)]
    pub kinds: Vec<Kind>,
    /// How long, over all
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub seconds: u64,
    /// Where the random work begins
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
}

fn kind(name: &str) -> Result<Kind, String> {
    let all: Vec<&str> = Kind::ALL.iter().map(|(name, _)| *name).collect();
    Kind::named(name).ok_or_else(|| format!("{name:?} is none of {}", all.join(", ")))
}

/// Runs the campaigns.
///
/// # Errors
/// What was found, and the command that replays it.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let seed = arguments.seed.unwrap_or_else(Random::fresh_seed);
    let kinds = match &arguments.kinds[..] {
        [] => Kind::ALL.iter().map(|(_, kind)| *kind).collect(),
        some => some.to_vec(),
    };
    say(format!("Crash simulator, seed {seed}, {} s ...", arguments.seconds));
    let time = Duration::from_secs(arguments.seconds / kinds.len() as u64);
    for kind in kinds {
        println!("{}", campaign(kind, seed, time).map_err(|what| anyhow!(what))?);
    }
    Ok(0)
}
