//! `bench`: what the system costs, beside Linux in the same emulator.
//!
//! Times come from the machine's own clock. Guest instructions come from a second run in which QEMU
//! advances that clock by one nanosecond for each instruction (`-icount shift=0`), so that the same program
//! reports instructions where it believes to report nanoseconds.

mod linux;
mod newc;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use twizzler_bench::Figure;

use crate::accel::Accel;
use crate::progress::say;
use crate::qemu::{Machine, Sink, to_stream};
use crate::setup;
use crate::size::Bytes;
use crate::status::Ending;

/// Arguments of `bench`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Where the figures go
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What makes QEMU's clock count instructions.
const COUNTING: [&str; 2] = ["-icount", "shift=0,sleep=off"];

/// No single run of a machine takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures everything.
///
/// # Errors
/// A machine doesn't start or doesn't end as it should.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let _ = arguments;
    let qemu = setup::qemu()?;
    let guest = linux::prepare()?;
    let log = crate::paths::state().join("linux/kernel.log");
    let mut machine = Machine {
        qemu: &qemu,
        accel: Accel::Tcg,
        cpus: 1,
        memory: Bytes(Bytes::GIB),
        nvm: None,
        kernel: &guest.kernel,
        archive: &guest.archive,
        command_line: linux::COMMAND_LINE.into(),
        log: &log,
        extra: Vec::new(),
    };
    say(format!("Linux {}", guest.version));
    println!("{:?}", figures(&machine)?);
    machine.extra = COUNTING.map(str::to_owned).to_vec();
    println!("{:?}", figures(&machine)?);
    Ok(0)
}

/// Runs a machine to its end and takes the figures from its console.
fn figures(machine: &Machine<'_>) -> Result<Vec<Figure>> {
    let (sink, text) = collector();
    let ending = machine.start(sink, to_stream(std::io::stderr()))?.wait(Some(PATIENCE))?;
    let text = String::from_utf8_lossy(&text.lock().expect("no sink panics")).into_owned();
    let figures: Vec<Figure> = text.lines().filter_map(twizzler_bench::figure).collect();
    if !matches!(ending, Ending::PoweredOff(0) | Ending::Stopped(Some(0))) || figures.is_empty() {
        bail!("the machine ended with {ending:?} after saying\n{text}");
    }
    Ok(figures)
}

fn collector() -> (Sink, Arc<Mutex<Vec<u8>>>) {
    let text = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&text);
    (Box::new(move |bytes| into.lock().expect("no reader panics").extend_from_slice(bytes)), text)
}
