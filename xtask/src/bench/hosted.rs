//! `bench hosted`: the programming model natively on Linux, beside its peers. The measuring is `bench/hosted`'s; this installs the
//! peers, builds and starts it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::progress::{self, say};
use crate::{paths, setup, status};

/// Where the peers come from that are not crates.
const PACKAGES: [&str; 4] = ["libpmemobj-dev", "liblmdb-dev", "librocksdb-dev", "libsqlite3-dev"];
const PROGRAM: &str = "twizzler-bench-hosted";

/// Arguments of `bench hosted`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// What to measure (hop, tx, ...; a wrong name lists them); everything where nothing is named
    sections: Vec<String>,
    /// So short that the figures mean little
    #[arg(long)]
    quick: bool,
    /// Also what takes up to 12 GB of the disk and 8 GB of memory: `maps-large`, `maps-large-100`, `maps-large-pmem`, `open-large`
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Folder on the disk to measure [default: in the target directory]
    #[arg(long, value_name = "FOLDER")]
    disk: Option<PathBuf>,
    /// Folder on a disk in memory, with a file system that syncs; for `kv13` also over that
    #[arg(long, value_name = "FOLDER")]
    memory_disk: Option<PathBuf>,
    /// Folder for bench-hosted.md, bench/hosted.json and the plots [default: docs; nothing is written with --quick]
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// Installs, builds, measures.
///
/// # Errors
/// What can't be installed, built or started.
pub(super) fn run(arguments: &Arguments) -> Result<u8> {
    setup::packages("What to compare with", &PACKAGES)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root()).args(["build", "--quiet", "--release", "--package", PROGRAM]);
    progress::run(&format!("Building {PROGRAM}"), cargo.args(["--features", "peers"]))?;
    let mut program = Command::new(paths::target().join("release").join(PROGRAM));
    program.args(&arguments.sections);
    program.arg("--disk").arg(arguments.disk.clone().unwrap_or_else(|| paths::target().join("bench-disk")));
    if arguments.quick {
        program.arg("--quick");
    }
    if arguments.full {
        program.arg("--full");
    }
    if let Some(folder) = &arguments.memory_disk {
        program.arg("--memory-disk").arg(folder);
    }
    let into = arguments.into.clone().or_else(|| (!arguments.quick).then(|| paths::root().join("docs")));
    if let Some(into) = &into {
        program.arg("--into").arg(into);
    }
    say("Measuring ...");
    let ended = program.status().with_context(|| format!("can't start {PROGRAM}"))?;
    if let (true, Some(into)) = (ended.success(), into) {
        say(format!("Written: {}", into.join("bench-hosted.md").display()));
    }
    Ok(ended.code().map_or(status::NOT_STARTED, |code| code as u8))
}
