//! A contender that has the machine alone: a process of its own, which loads its store, has its turns, and ends. With it goes all memory that it took, and the
//! page cache of its store with the store.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{Field, Heat};
use crate::clock::Stopwatch;
use crate::measure::Turns;

/// Asks this program to be one of the contenders: the field, as JSON, and its name.
const BE: &str = "TWIZZLER_BENCH_ALONE";

/// Has a contender take its turns, with a store in an empty folder.
///
/// # Errors
/// It failed.
pub(super) fn take_turns(field: Field, name: &str, folder: &Path) -> Result<Vec<Vec<Turns>>> {
    let start = Instant::now();
    let output = Command::new(std::env::current_exe()?)
        .arg("--disk")
        .arg(folder)
        .env(BE, serde_json::to_string(&(field, name))?)
        .stderr(Stdio::inherit())
        .output()
        .context("can't start a contender")?;
    ensure!(output.status.success(), "{name} failed");
    eprintln!("{name}, alone: {:.1} s", start.elapsed().as_secs_f64());
    serde_json::from_slice(&output.stdout).with_context(|| format!("{name} gave no figures"))
}

/// What this program is asked to be, if it is to be a contender.
pub(crate) fn asked() -> Option<String> {
    std::env::var(BE).ok()
}

/// Is a contender; its figures go to standard output.
///
/// # Errors
/// Whatever the engine says.
pub(crate) fn be_alone(asked: &str, folder: &Path) -> Result<()> {
    let (field, name): (Field, String) = serde_json::from_str(asked)?;
    let mut entrants = field.entrants();
    entrants.retain(|entrant| entrant.name == name);
    ensure!(!entrants.is_empty(), "nobody is called {name}");
    let stores = field.load(folder, &entrants)?;
    let memory = vec![1; MEMORY_BYTES / size_of::<u64>()];
    let turns = Heat::all(field).into_iter().map(|heat| {
        let ns = random_read_ns(&memory);
        let mut turns = field.take_turns(heat, &stores)?;
        turns.iter_mut().for_each(|turns| turns.counts.push(("memory".to_owned(), ns)));
        Ok(turns)
    });
    serde_json::to_writer(std::io::stdout(), &turns.collect::<Result<Vec<_>>>()?)?;
    Ok(())
}

/// What every contender measures, for comparison; more than the caches hold.
const MEMORY_BYTES: usize = 256 << 20;

/// How long it takes to read a number whose place depends on the number before.
fn random_read_ns(memory: &[u64]) -> f64 {
    const READS: u32 = 1_000_000;
    let mut at = 1_u64;
    let clock = Stopwatch::start();
    for _ in 0..READS {
        // A generator of which the upper bits are random (Knuth, MMIX).
        let place = (at >> 32) as usize % memory.len();
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(memory[place]);
    }
    std::hint::black_box(at);
    clock.elapsed().as_nanos() as f64 / f64::from(READS)
}
