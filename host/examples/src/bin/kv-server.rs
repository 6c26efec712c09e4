//! A key-value server for Redis clients, on the loopback interface: `kv-server STORE`.
#![forbid(unsafe_code)]

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use twizzler::{Durability, Options};
use twizzler_examples::server::{Settings, serve};

/// A key-value server that speaks the Redis protocol and keeps its data in persistent objects.
#[derive(Parser)]
struct Arguments {
    /// Directory of the store; made where there is none.
    store: PathBuf,
    /// Port on the loopback interface; 0 takes any.
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// Threads that serve clients; as many as there are processors, unless given.
    #[arg(long)]
    threads: Option<NonZero<usize>>,
    /// What an answered command survives.
    #[arg(long, value_enum, default_value_t = Survives::PowerCut)]
    survives: Survives,
}

#[derive(Clone, Copy, ValueEnum)]
enum Survives {
    /// A power cut: every batch of commands waits for the disk.
    PowerCut,
    /// The end of the server, however it comes; not a power cut.
    Kill,
}

fn main() -> Result<()> {
    let started = Instant::now();
    let arguments = Arguments::parse();
    let (durability, words) = match arguments.survives {
        Survives::PowerCut => (Durability::PowerCut, "power cut"),
        Survives::Kill => (Durability::ProcessKill, "kill"),
    };
    let store = Options::new().durability(durability).open_or_create(&arguments.store);
    let store = store.with_context(|| format!("{} can't be used", arguments.store.display()))?;
    let threads = match arguments.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism()?,
    };
    let settings = Settings { port: arguments.port, threads: threads.get(), durability: words, started };
    serve(&store, settings, |server| println!("{server}"))?;
    store.close()?;
    Ok(())
}
