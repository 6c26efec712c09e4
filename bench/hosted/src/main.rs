//! Measures the programming model on Linux, beside its peers. `cargo run -- bench hosted` builds and runs it.
//!
//! A *section* is a set of *contests*; in a contest, contenders do the same thing in turns. What is measured goes to
//! `bench/hosted.json` in the folder of the documentation; page and plots are made from that file alone.

mod backend;
mod clock;
mod count;
mod disk;
mod engine;
mod hop;
mod kv13;
mod limit;
mod machine;
mod maps;
mod measure;
mod open;
mod page;
mod plot;
mod race;
mod report;
mod tx;
mod ycsb;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use backend::Caches;
use measure::Effort;
use report::{Report, Section};

#[derive(Parser, Debug)]
#[command(version, about)]
struct Arguments {
    /// What to measure; everything where nothing is named
    sections: Vec<Name>,
    /// So short that the figures mean little
    #[arg(long)]
    quick: bool,
    /// Also what takes up to 12 GB of the disk and 8 GB of memory: `maps-large`, `maps-large-100`, `maps-large-pmem`, `open-large`
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Folder on the disk to measure; made, and emptied at the end
    #[arg(long, value_name = "FOLDER")]
    disk: PathBuf,
    /// Folder on a disk in memory, with a file system that syncs; for `kv13` also over that
    #[arg(long, value_name = "FOLDER")]
    memory_disk: Option<PathBuf>,
    /// Folder in memory (tmpfs)
    #[arg(long, value_name = "FOLDER", default_value = "/dev/shm")]
    memory: PathBuf,
    /// Folder for bench-hosted.md, bench/hosted.json and the plots; without it, nothing is written down
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Name {
    /// Following pointers
    Hop,
    /// Transactions in memory
    Tx,
    /// The same where caches survive a power cut
    TxCaches,
    /// Commits on a disk
    Disk,
    /// Operations of maps
    Maps,
    /// Maps larger than memory; needs root
    Limit,
    /// A key-value store against the same over file I/O
    Kv13,
    /// YCSB, and transfers
    Ycsb,
    /// Opening a store
    Open,
    /// Maps of 20,000,000 entries with values of 8 bytes: 6 GB of the disk, 8 GB of memory
    MapsLarge,
    /// The same with values of 100 bytes, one contender at a time: 5 GB of the disk, 6 GB of memory
    #[value(name = "maps-large-100")]
    MapsLarge100,
    /// Maps of 20,000,000 entries in persistent memory, one contender at a time: 8 GB of memory
    MapsLargePmem,
    /// Opening a store of 10 GiB
    OpenLarge,
}

impl Name {
    /// True where stores on a disk are measured: as the machine's kernel maps files. Elsewhere huge pages are off, which would be some contenders' alone.
    const fn is_on_disk(self) -> bool {
        matches!(
            self,
            Self::Disk
                | Self::MapsLarge
                | Self::MapsLarge100
                | Self::Limit
                | Self::Ycsb
                | Self::Open
                | Self::OpenLarge
        )
    }

    /// True for what is only measured where it is named, or with `--full`.
    const fn is_large(self) -> bool {
        matches!(self, Self::MapsLarge | Self::MapsLarge100 | Self::MapsLargePmem | Self::OpenLarge)
    }
}

/// How and where to measure.
struct Context {
    quick: bool,
    disk: PathBuf,
    memory: PathBuf,
    memory_disk: Option<PathBuf>,
}

impl Context {
    /// How long to measure operations of nanoseconds.
    const fn effort(&self) -> Effort {
        Effort::short(self.quick)
    }

    /// A new folder on the disk, gone when dropped.
    fn disk_folder(&self) -> Result<TempDir> {
        let folder = tempfile::Builder::new().prefix("twizzler-bench-").tempdir_in(&self.disk);
        folder.with_context(|| format!("can't write to {}", self.disk.display()))
    }

    /// A new folder in memory, gone when dropped.
    fn memory_folder(&self) -> Result<TempDir> {
        tempfile::Builder::new().prefix("twizzler-bench-").tempdir_in(&self.memory).with_context(|| {
            format!("can't write to {}: name another folder in memory with --memory", self.memory.display())
        })
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = open::asked_to_write() {
        return open::write_until_killed(folder.as_ref());
    }
    if let Some(folder) = open::asked_to_fill() {
        return open::fill_the_log(folder.as_ref());
    }
    if let Some(task) = count::asked() {
        return match task.split_once('\n') {
            Some(("hop", task)) => hop::be_counted(task),
            Some(("tx", task)) => tx::be_counted(task),
            _ => bail!("nothing is called {task}"),
        };
    }
    if let Some(asked) = maps::asked() {
        return maps::be_alone(&asked, &arguments.disk);
    }
    if let Some(asked) = limit::asked() {
        return limit::work(&asked, &arguments.disk);
    }
    std::fs::create_dir_all(&arguments.disk)
        .with_context(|| format!("can't make {}", arguments.disk.display()))?;
    prepare()?;
    if arguments.quick {
        count::be_quick();
    }
    let context = Context {
        quick: arguments.quick,
        disk: arguments.disk,
        memory: arguments.memory,
        memory_disk: arguments.memory_disk,
    };
    let sections: Vec<Name> = if arguments.sections.is_empty() {
        let all = Name::value_variants().iter().copied();
        all.filter(|name| arguments.full || !name.is_large()).collect()
    } else {
        arguments.sections
    };
    for name in sections {
        if name == Name::TxCaches && std::env::var_os(NO_FLUSH).is_none() {
            // libpmem decides when it is loaded: in a process of its own.
            let mut child = std::process::Command::new(std::env::current_exe()?);
            child.args(std::env::args_os().skip(1).filter(|word| !is_section(word))).arg("tx-caches");
            ensure!(child.env(NO_FLUSH, "1").status()?.success(), "measuring tx-caches failed");
            continue;
        }
        // Children inherit it.
        rustix::thread::disable_transparent_huge_pages(!name.is_on_disk())
            .context("can't switch huge pages off")?;
        let mut machine = machine::describe(&context.disk, context.quick);
        let (notes, contests) = match name {
            Name::Hop => (hop::NOTES.as_slice(), hop::run(&context)?),
            Name::Tx => (tx::NOTES.as_slice(), tx::run(&context, Caches::Lost)?),
            Name::Disk => (disk::NOTES.as_slice(), disk::run(&context)?),
            Name::Maps => (maps::NOTES.as_slice(), maps::run(&context)?),
            Name::MapsLarge => (maps::NOTES_LARGE.as_slice(), maps::run_large(&context)?),
            Name::MapsLarge100 => (maps::NOTES_ALONE.as_slice(), maps::run_large_100(&context)?),
            Name::MapsLargePmem => (maps::NOTES_ALONE.as_slice(), maps::run_large_pmem(&context)?),
            Name::Limit => (limit::NOTES.as_slice(), limit::run(&context)?),
            Name::Kv13 => (kv13::NOTES.as_slice(), kv13::run(&context)?),
            Name::Open => (open::NOTES.as_slice(), open::run(&context)?),
            Name::OpenLarge => (open::NOTES_LARGE.as_slice(), open::run_large(&context)?),
            Name::Ycsb => (ycsb::NOTES.as_slice(), ycsb::run(&context)?),
            Name::TxCaches => (tx::NOTES_CACHES.as_slice(), tx::run(&context, Caches::Durable)?),
        };
        machine::loaded(&mut machine);
        let mut notes: Vec<String> = notes.iter().map(|&note| note.to_owned()).collect();
        if matches!(
            name,
            Name::Disk
                | Name::Maps
                | Name::MapsLarge
                | Name::MapsLarge100
                | Name::Limit
                | Name::Ycsb
                | Name::Open
        ) {
            notes.push(engine::SETTINGS.to_owned());
        }
        let section = Section { machine, notes, contests };
        if let Some(into) = &arguments.into {
            // Written after each section, so that a run that is broken off leaves what it has.
            let json = into.join("bench/hosted.json");
            let mut report = Report::read(&json)?;
            let title = name.to_possible_value().expect("no section is hidden").get_name().to_owned();
            report.sections.insert(title, section);
            report.write(&json)?;
            page::write(&report, into)?;
        }
    }
    Ok(())
}

/// What tells libpmem that caches survive a power cut.
const NO_FLUSH: &str = "PMEM_NO_FLUSH";

/// True for an argument that names a section.
fn is_section(word: &std::ffi::OsStr) -> bool {
    word.to_str().is_some_and(|word| Name::from_str(word, false).is_ok())
}

/// Makes the conditions equal for everybody: tmpfs is taken for persistent memory by libpmemobj.
fn prepare() -> Result<()> {
    const FORCE: &str = "PMEM_IS_PMEM_FORCE";
    if cfg!(feature = "peers") && std::env::var_os(FORCE).is_none() {
        // libpmem reads it when it is loaded, which has happened: start again.
        use std::os::unix::process::CommandExt;
        let mut again = std::process::Command::new(std::env::current_exe()?);
        return Err(again.args(std::env::args_os().skip(1)).env(FORCE, "1").exec().into());
    }
    Ok(())
}
