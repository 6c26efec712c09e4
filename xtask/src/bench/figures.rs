//! The figures of one guest: in nanoseconds, and in instructions.

use std::time::Duration;

use anyhow::{Result, bail};
use twizzler_bench::Figure;

use crate::console::Console;
use crate::qemu::Machine;
use crate::status::Ending;

/// What makes QEMU's clock count instructions: each takes one nanosecond of the machine's time.
const COUNTING: [&str; 2] = ["-icount", "shift=0,sleep=off"];

/// No single run of a machine takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// One operation, measured twice.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Cost {
    pub(super) name: String,
    pub(super) ns: f64,
    pub(super) instructions: f64,
}

/// Runs a guest once by the clock and once counting.
pub(super) fn measure(machine: &Machine<'_>) -> Result<Vec<Cost>> {
    let timed = figures(machine)?;
    let counted = figures(&counting(machine))?;
    Ok(timed
        .into_iter()
        .filter_map(|Figure { name, ns }| {
            let instructions = counted.iter().find(|figure| figure.name == name)?.ns;
            Some(Cost { name, ns, instructions })
        })
        .collect())
}

/// The same machine, whose clock counts instructions.
pub(super) fn counting<'a>(machine: &Machine<'a>) -> Machine<'a> {
    Machine { extra: COUNTING.map(str::to_owned).to_vec(), ..machine.clone() }
}

/// Runs a machine to its end and takes the figures from its console.
fn figures(machine: &Machine<'_>) -> Result<Vec<Figure>> {
    let (output, errors) = run(machine)?;
    let figures: Vec<Figure> = output.lines().filter_map(twizzler_bench::figure).collect();
    if figures.is_empty() {
        bail!("the machine reported no figures, but said\n{output}\n{errors}");
    }
    Ok(figures)
}

/// Runs a machine to its end; what it put out, and its messages.
pub(super) fn run(machine: &Machine<'_>) -> Result<(String, String)> {
    let (output, errors) = (Console::default(), Console::default());
    let ending = machine.start(output.sink(), errors.sink())?.wait(Some(PATIENCE))?;
    // Linux powers off without a status.
    if !matches!(ending, Ending::PoweredOff(0) | Ending::Stopped(Some(0))) {
        bail!("the machine ended with {ending:?} after saying\n{}\n{}", output.text(), errors.text());
    }
    Ok((output.text(), errors.text()))
}
