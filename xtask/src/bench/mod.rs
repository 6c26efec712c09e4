//! `bench`: what the system costs, beside Linux in the same emulator.
//!
//! Times come from the machine's own clock. Guest instructions come from a second run in which QEMU
//! advances that clock by one nanosecond for each instruction (`-icount shift=0`), so that the same program
//! reports instructions where it believes to report nanoseconds.

mod boot;
mod figures;
mod hosted;
mod linux;
mod newc;
mod report;
mod search;
mod touched;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::accel::Accel;
use crate::build::{self, Built};
use crate::nvm::Nvm;
use crate::progress::say;
use crate::qemu::Machine;
use crate::setup;
use crate::{archive, loc, paths};
use boot::Boot;
use report::Report;
use twz::size::Bytes;

/// Arguments of `bench`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Folder for bench.md and bench/latest.json
    #[arg(long, value_name = "FOLDER")]
    pub into: Option<PathBuf>,
}

/// What is measured, where it isn't the system.
#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Measures the programming model natively on Linux, beside libpmemobj, LMDB, SQLite, redb and RocksDB
    Hosted(hosted::Arguments),
}

/// What it takes to run the system under measurement.
struct Twizzler {
    qemu: PathBuf,
    built: Built,
    folder: PathBuf,
    log: PathBuf,
}

impl Twizzler {
    fn prepare() -> Result<Self> {
        let tools = setup::tools()?;
        let folder = paths::state().join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
        let log = folder.join("kernel.log");
        Ok(Self { built: build::build(&tools.way)?, qemu: tools.qemu, folder, log })
    }

    fn archive(&self, script: Option<&str>) -> Result<PathBuf> {
        let path = self.folder.join("boot.tar");
        fs::write(&path, archive::pack(&self.built, script)?)?;
        Ok(path)
    }

    fn machine<'a>(&'a self, archive: &'a Path, nvm: &'a Nvm) -> Machine<'a> {
        Machine {
            qemu: &self.qemu,
            accel: Accel::Tcg,
            cpus: 1,
            memory: Bytes(Bytes::GIB),
            nvm: Some(nvm),
            kernel: &self.built.kernel,
            archive,
            command_line: "script".into(),
            log: &self.log,
            extra: Vec::new(),
        }
    }
}

/// Measures everything and writes it down.
///
/// # Errors
/// A machine doesn't start or doesn't end as it should.
pub fn run(arguments: &Arguments) -> Result<u8> {
    if let Some(What::Hosted(hosted)) = &arguments.what {
        return hosted::run(hosted);
    }
    let twizzler = Twizzler::prepare()?;
    let guest = linux::prepare()?;
    let nvm_path = twizzler.folder.join("bench.nvm");
    let _ = fs::remove_file(&nvm_path);
    let nvm = Nvm::open(&nvm_path, Some(Bytes(Bytes::GIB)))?;

    say("Operations ...");
    let archive = twizzler.archive(Some("bench\n"))?;
    let ours = figures::measure(&twizzler.machine(&archive, &nvm))?;
    say("Operations of Linux ...");
    let linux = Machine {
        nvm: None,
        kernel: &guest.kernel,
        archive: &guest.archive,
        command_line: linux::COMMAND_LINE.into(),
        ..twizzler.machine(&archive, &nvm)
    };
    let theirs = figures::measure(&linux)?;
    say("Power-on ...");
    let linux_ms = boot::until_it_says(&linux, "bench ")?;
    let archive = twizzler.archive(Some("echo up\n"))?;
    let boot = Boot { ms: boot::until_it_says(&twizzler.machine(&archive, &nvm), "up\n")?, linux_ms };
    say("Mounts ...");
    let mounts = boot::mounts(&twizzler)?;
    say("Searches ...");
    let searches = search::searches(&twizzler)?;

    let (built, reserved) = loc::calls();
    let report = Report {
        date: output("date", &["-u", "+%Y-%m-%d"]),
        host: processor(),
        qemu: output(&twizzler.qemu.display().to_string(), &["--version"]),
        linux: guest.version,
        boot,
        mounts,
        operations: report::side_by_side(&ours, &theirs),
        searches,
        kernel_lines: loc::count()?.iter().map(|(_, lines)| lines).sum(),
        calls: built + reserved,
    };
    write(&arguments.into.clone().unwrap_or_else(|| paths::root().join("docs")), &report)?;
    Ok(0)
}

fn write(folder: &Path, report: &Report) -> Result<()> {
    let page = report::page(report)?;
    fs::create_dir_all(folder.join("bench"))?;
    fs::write(folder.join("bench/latest.json"), serde_json::to_string_pretty(report)? + "\n")?;
    fs::write(folder.join("bench.md"), &page)?;
    print!("{page}");
    Ok(())
}

/// The first line that a command prints.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{cpus} processors, {}", name.unwrap_or("unknown"))
}
