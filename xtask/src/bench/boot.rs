//! How long it takes from power-on to the first command, and how long the mount takes of it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::Twizzler;
use crate::console::Console;
use crate::nvm::Nvm;
use crate::qemu::Machine;
use crate::random::Random;
use crate::transfer;
use twz::files::{self, Typed};
use twz::medium::Medium;
use twz::size::Bytes;

/// Time from the start of QEMU.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Boot {
    /// To the first output of a command, best of several.
    pub(super) ms: f64,
    /// The same of Linux: the first line of its only process.
    pub(super) linux_ms: f64,
}

/// The mount of a store after a power cut.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Mount {
    /// What it holds, in words.
    pub(super) holds: String,
    /// NVM in use.
    pub(super) used_bytes: u64,
    /// Objects.
    pub(super) objects: u64,
    /// Time that the kernel took, best of several.
    pub(super) ms: f64,
}

const ROUNDS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(120);

/// From the start of QEMU until the machine has said something.
pub(super) fn until_it_says(machine: &Machine<'_>, wanted: &str) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let console = Console::default();
        let mut running = machine.start(console.sink(), Console::default().sink())?;
        while !console.contains(wanted) {
            ensure!(
                running.is_running() && running.age() < PATIENCE,
                "the machine does not boot: {}",
                console.text()
            );
            std::thread::sleep(Duration::from_micros(500));
        }
        best = best.min(running.age().as_secs_f64() * 1e3);
        running.cut_power();
    }
    Ok(best)
}

/// Mounts stores that hold more and more.
pub(super) fn mounts(twizzler: &Twizzler) -> Result<Vec<Mount>> {
    let fillings: [(&str, u64, u64); 5] = [
        ("nothing", 0, 0),
        ("one file of 64 MiB", 1, 64 << 20),
        ("8 files of 16 MiB", 8, 16 << 20),
        ("32 files of 16 MiB", 32, 16 << 20),
        ("4000 files of 1 KiB", 4000, 1 << 10),
    ];
    fillings.into_iter().map(|(holds, files, bytes)| mount(twizzler, holds, files, bytes)).collect()
}

fn mount(twizzler: &Twizzler, holds: &str, count: u64, bytes: u64) -> Result<Mount> {
    let path = twizzler.folder.join("mount.nvm");
    let _ = fs::remove_file(&path);
    let nvm = Nvm::open(&path, Some(Bytes(Bytes::GIB)))?;
    let mut random = Random::new(1);
    let content: Vec<u8> = (0..bytes).map(|_| random.below(256) as u8).collect();
    let store = transfer::open(&nvm)?;
    for file in 0..count {
        files::put(&store, &format!("file{file}"), &mut &content[..], &path, Typed::Refuse)?;
    }
    let about = store.medium().describe()?;
    // Not closed: the machine finds the store as a power cut leaves it.
    drop(store);
    let archive = twizzler.archive(Some("echo up\n"))?;
    let machine = twizzler.machine(&archive, &nvm);
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let console = Console::default();
        let mut running = machine.start(console.sink(), Console::default().sink())?;
        while !console.contains("up\n") {
            ensure!(
                running.is_running() && running.age() < PATIENCE,
                "the machine does not boot: {}",
                console.text()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        running.cut_power();
        best = best.min(mounted_in_us(&fs::read_to_string(machine.log)?)? / 1e3);
    }
    drop(nvm);
    fs::remove_file(path)?;
    Ok(Mount { holds: holds.to_owned(), used_bytes: about.used_bytes, objects: about.objects, ms: best })
}

/// The kernel's own measurement: `nvm: mounted in N us`.
fn mounted_in_us(log: &str) -> Result<f64> {
    let number = log.split("mounted in ").nth(1).and_then(|rest| rest.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .context("the kernel's log does not tell the time of the mount")
}
