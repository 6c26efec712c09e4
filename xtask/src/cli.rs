//! The command line.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::progress::say;
use crate::{abi_reference, bench, check, crashsim, lint, mutants, powercut, run, sanitize, status};

/// Builds, runs, tests and measures Twizzler. Without a command: boots it on this terminal.
#[derive(Parser, Debug)]
#[command(name = "cargo run --", bin_name = "cargo run --", version, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Boots the system: on this terminal, or with -c to run commands and power off
    Run(run::Arguments),
    /// Installs and builds what the other commands need, then stops
    Setup,
    /// Builds the kernel and the programs, then stops
    Build,
    /// Kills the machine at random moments while it works on real texts
    Powercut(powercut::Arguments),
    /// Runs the crash simulator and the MMU model for a while
    Crashsim(crashsim::Arguments),
    /// Tries damaged and hostile data under AddressSanitizer
    Sanitize(sanitize::Arguments),
    /// Builds in one mistake after the other, to see that the tests notice
    Mutants(mutants::Arguments),
    /// Checks an NVM file
    Check(check::Arguments),
    /// Measures the system, beside Linux in the same emulator
    Bench(bench::Arguments),
    /// Runs clippy over what runs on bare metal
    Lint,
    /// Counts the kernel's lines and calls
    Loc,
    /// Writes docs/abi.md anew from shared/abi
    Abi,
}

/// Does what the command line says. Everything but the commands' own output goes to stderr.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let _ = message.print();
            return ExitCode::from(if message.use_stderr() { status::NOT_STARTED } else { 0 });
        }
    };
    let result = match arguments.command.unwrap_or_else(|| Verb::Run(run::Arguments::default())) {
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Setup => crate::setup::tools().map(|tools| {
            say(format!("Ready. Compiling for bare metal: {}. QEMU: {}", tools.way, tools.qemu.display()));
            0
        }),
        Verb::Build => crate::setup::way().and_then(|way| crate::build::build(&way)).map(|built| {
            say(format!("Kernel: {}", built.kernel.display()));
            0
        }),
        Verb::Powercut(arguments) => powercut::run(&arguments),
        Verb::Crashsim(arguments) => crashsim::run(&arguments),
        Verb::Sanitize(arguments) => sanitize::run(&arguments),
        Verb::Mutants(arguments) => mutants::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Lint => lint::run(),
        Verb::Loc => crate::loc::report().map(|report| {
            print!("{report}");
            0
        }),
        Verb::Abi => write_abi_reference(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(format!("error: {error:#}"));
            ExitCode::from(status::NOT_STARTED)
        }
    }
}

fn write_abi_reference() -> Result<u8> {
    let path = abi_reference::path();
    std::fs::write(&path, abi_reference::page()?)
        .with_context(|| format!("can't write {}", path.display()))?;
    say(format!("Written: {}", path.display()));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
