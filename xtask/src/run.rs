//! `run`: the system on this terminal, or commands in it from a script.

use std::io::{IsTerminal, Read, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::accel::{Accel, Choice};
use crate::nvm::{self, Nvm};
use crate::progress::say;
use crate::qemu::{Machine, to_stream};
use crate::setup::{self, Tools};
use crate::status::{self, Ending};
use crate::transfer::{self, Get, Put};
use crate::{archive, build, check, paths, terminal};
use twz::size::Bytes;

/// Arguments of `run`.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// File that the emulated NVDIMM lies in; created if it does not exist [default: .twizzler/nvm.img]
    #[arg(long, value_name = "FILE")]
    pub nvm: Option<PathBuf>,
    /// Size of a new NVM file [default: 1G]
    #[arg(long, value_name = "SIZE")]
    pub nvm_size: Option<Bytes>,
    /// DRAM of the machine
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    pub memory: Bytes,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// What runs the machine's code
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    pub accel: Choice,
    /// Before the start, puts a host file into the NVM under a name (default: the file's own)
    #[arg(long, value_name = "HOSTFILE[=NAME]")]
    pub put: Vec<Put>,
    /// After the end, gets a named object out of the NVM into a host file
    #[arg(long, value_name = "NAME=HOSTFILE")]
    pub get: Vec<Get>,
    /// Runs a shell command; may be given several times. The machine powers off after the last
    #[arg(short = 'c', value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Ends the machine after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Where the kernel's log goes [default: .twizzler/kernel.log]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Boots with this kernel command line, for the kernel's own tests
    #[arg(long, value_name = "WORDS", hide = true)]
    pub kernel_arguments: Option<String>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            nvm: None,
            nvm_size: None,
            memory: Bytes(Bytes::GIB),
            cpus: 1,
            accel: Choice::Auto,
            put: Vec::new(),
            get: Vec::new(),
            command: Vec::new(),
            timeout: None,
            log: None,
            kernel_arguments: None,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{text} is no time to wait: give a number of seconds above 0"))
}

/// Runs the system.
///
/// # Errors
/// It was not started: with the reason and what to do.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let script = arguments.script()?;
    arguments.check()?;
    let nvm_path = arguments.nvm.clone().unwrap_or_else(nvm::default_path);
    let nvm = Nvm::open(&nvm_path, arguments.nvm_size)?;
    let tools = setup::tools()?;
    let accel = arguments.accel.decide(&tools.qemu)?;
    let built = build::build(&tools.way)?;
    transfer::put(&nvm, &arguments.put)?;
    check::warn(nvm.path());
    let log = arguments.log.clone().unwrap_or_else(|| paths::state().join("kernel.log"));
    let packed = Packed::new(&archive::pack(&built, script.as_deref())?)?;
    let machine = Machine {
        qemu: &tools.qemu,
        accel,
        cpus: arguments.cpus,
        memory: arguments.memory,
        nvm: Some(&nvm),
        kernel: &built.kernel,
        archive: &packed.path,
        command_line: arguments.command_line(script.is_some()),
        log: &log,
        extra: Vec::new(),
    };
    let ending = if script.is_some() || arguments.kernel_arguments.is_some() {
        machine.start(to_stream(stdout()), to_stream(stderr()))?.wait(arguments.timeout)?
    } else {
        on_terminal(&machine, &tools, arguments.timeout)?
    };
    report(ending, &log, arguments.timeout, script.is_none());
    if let Err(error) = transfer::get(&nvm, &arguments.get) {
        say(format!("error: {error:#}"));
        return Ok(if ending.status() == 0 { status::GET_FAILED } else { ending.status() });
    }
    Ok(if script.is_none() && ending == Ending::Stopped(Some(0)) { 0 } else { ending.status() })
}

fn on_terminal(machine: &Machine<'_>, tools: &Tools, timeout: Option<Duration>) -> Result<Ending> {
    let _ = tools;
    let by = if machine.accel == Accel::Kvm { "KVM" } else { "QEMU's TCG" };
    say(format!("Booting with {by}. `poweroff` ends the session; Ctrl-] x cuts the power."));
    let _restored = terminal::Restored::later();
    machine.start_on_terminal()?.wait(timeout)
}

fn report(ending: Ending, log: &Path, timeout: Option<Duration>, interactive: bool) {
    let log = log.display();
    match ending {
        Ending::PoweredOff(_) => {}
        Ending::Stopped(Some(0)) if interactive => say("The machine was switched off."),
        Ending::Panicked => say(format!("error: the kernel stopped itself. Its log: {log}")),
        Ending::TimedOut => {
            let seconds = timeout.map_or(0.0, |timeout| timeout.as_secs_f64());
            say(format!("error: not done after {seconds} s, so the machine was ended. Kernel log: {log}"));
        }
        Ending::Stopped(Some(code)) => {
            say(format!(
                "error: the machine stopped without telling a status (QEMU's: {code}). Kernel log: {log}"
            ));
        }
        Ending::Stopped(None) => say(format!("error: QEMU was ended by a signal. Kernel log: {log}")),
    }
}

impl Arguments {
    /// The commands to run: from `-c`, or from stdin where that is no terminal.
    fn script(&self) -> Result<Option<String>> {
        if self.kernel_arguments.is_some() {
            return Ok(None);
        }
        if let Some(command) = self.command.iter().find(|command| command.contains('\n')) {
            bail!("a command is one line, but {command:?} is several: give each its own -c");
        }
        if !self.command.is_empty() {
            return Ok(Some(self.command.join("\n") + "\n"));
        }
        if stdin().is_terminal() {
            return Ok(None);
        }
        let mut script = String::new();
        stdin().read_to_string(&mut script).context("can't read commands from stdin")?;
        Ok(Some(script))
    }

    /// What can be found wrong before anything is built or started.
    fn check(&self) -> Result<()> {
        if self.memory.0 < 64 * Bytes::MIB {
            bail!("{} of memory is too little: --memory takes 64M or more", self.memory);
        }
        self.put.iter().try_for_each(Put::check)?;
        self.get.iter().try_for_each(Get::check)
    }

    fn command_line(&self, scripted: bool) -> String {
        match &self.kernel_arguments {
            Some(words) => words.clone(),
            None if scripted => "script".to_owned(),
            None => String::new(),
        }
    }
}

/// The boot archive as a file of this run, removed afterwards.
struct Packed {
    path: PathBuf,
}

impl Packed {
    fn new(archive: &[u8]) -> Result<Self> {
        let path = paths::state().join(format!("boot-{}.tar", std::process::id()));
        std::fs::write(&path, archive).with_context(|| format!("can't write {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
