//! A queue of shell commands that any number of workers run: `jobs STORE add|work|list|forget`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use twizzler::Store;
use twizzler_examples::jobs::{self, Next, State};

/// Runs shell commands, by as many workers as you start. A worker that is killed loses nothing: another one takes its job over.
#[derive(Parser)]
#[command(
    after_help = "Example:\n  jobs queue add 'sleep 1; date' 'wc -l *.md'\n  jobs queue work & jobs queue work\n  jobs queue list"
)]
struct Arguments {
    /// Directory of the store; made where there is none.
    store: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Adds commands, all or none.
    Add {
        /// What `sh -c` is to run.
        #[arg(required = true)]
        commands: Vec<String>,
    },
    /// Runs jobs until all are done.
    Work,
    /// Lists all jobs: number, state, how often it was begun, and the command with its output.
    List,
    /// Forgets the jobs that are done.
    Forget,
}

/// Bytes of output that are kept of a job.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How often to look whether a worker was killed.
const TICK: Duration = Duration::from_millis(20);

fn work(store: &Store) -> Result<()> {
    loop {
        match jobs::take(store)? {
            Next::Job(number, command) => {
                let ran = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).output();
                let ran = ran.context("can't start sh")?;
                let status = ran.status.code().and_then(|code| u64::try_from(code).ok()).unwrap_or(255);
                let output = [ran.stdout, ran.stderr].concat();
                jobs::finish(store, number, status, &output[..output.len().min(OUTPUT_BYTES_MAX)])?;
            }
            Next::Wait => sleep(TICK),
            Next::Nothing => return Ok(()),
        }
    }
}

fn list(store: &Store) -> Result<()> {
    for job in jobs::list(store)? {
        let state = match job.state {
            State::Waiting => "waiting".to_owned(),
            State::Running => "running".to_owned(),
            State::Done => format!("done {}", job.status),
        };
        println!("{}\t{state}\tbegun {}\t{}", job.number, job.begun, job.command);
        String::from_utf8_lossy(&job.output).lines().for_each(|line| println!("\t{line}"));
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let store = Store::open_or_create(&arguments.store)
        .with_context(|| format!("{} can't be used", arguments.store.display()))?;
    match arguments.verb {
        Verb::Add { commands } => jobs::add(&store, &commands)?,
        Verb::Work => work(&store)?,
        Verb::List => list(&store)?,
        Verb::Forget => println!("{} forgotten", jobs::forget(&store)?),
    }
    store.close()?;
    Ok(())
}
