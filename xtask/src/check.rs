//! `check`: looks for damage in an NVM file, and changes nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use twizzler_image::{MediaFile, Store};
use twizzler_store::{Access, CheckReport, MountError, MountOptions, MountReport};

use crate::nvm::{self, Nvm};
use crate::progress::say;

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The NVM file [default: .twizzler/nvm.img]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Checks an NVM file and says what it finds: status 0 where it is clean, 1 where it is not.
///
/// # Errors
/// The file can't be used.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let path = arguments.file.clone().unwrap_or_else(nvm::default_path);
    if !path.exists() {
        bail!("there is no {}", path.display());
    }
    let nvm = Nvm::open(&path, None)?;
    let Some((mount, report)) = look(nvm.path())? else {
        println!("{}: all zeros; the first boot makes a store in it", path.display());
        return Ok(0);
    };
    let found = findings(&mount, &report);
    found.iter().for_each(|finding| println!("{finding}"));
    let ended = if mount.clean { "shut down" } else { "not shut down" };
    println!(
        "{} objects, {} pages, {} tables; last used by boot {}, {ended}",
        report.objects, report.pages, report.tables, mount.boots
    );
    println!("{}", if found.is_empty() { "clean" } else { "not clean" });
    Ok(u8::from(!found.is_empty()))
}

/// Tells whether an image is clean.
///
/// # Errors
/// What is wrong with it.
pub fn clean(nvm: &Nvm) -> Result<()> {
    let Some((mount, report)) = look(nvm.path())? else { return Ok(()) };
    let found = findings(&mount, &report);
    if !found.is_empty() {
        bail!("check finds:\n{}", found.join("\n"));
    }
    Ok(())
}

/// Says on stderr why the machine will be without NVM, where the file can't be mounted. It is not changed.
pub fn warn(path: &Path) {
    if let Err(error) = mount(path) {
        say(format!("warning: {error:#}. The system starts without NVM."));
    }
}

/// What mount and check found wrong.
fn findings(mount: &MountReport, report: &CheckReport) -> Vec<String> {
    let mut found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if mount.words_lost > 0 {
        found.push(format!("{} words of the object table are lost", mount.words_lost));
    }
    if found.is_empty() {
        found.extend(
            mount
                .quarantine
                .iter()
                .map(|quarantined| format!("in quarantine: {}: {}", quarantined.id, quarantined.why)),
        );
    }
    found
}

/// Mounts the store in a file; None where there is none yet. For reading only, so that what a power cut interrupted
/// stays as it is for the next boot.
fn mount(path: &Path) -> Result<Option<(Store, MountReport)>> {
    let media = MediaFile::open(path).with_context(|| format!("can't open {}", path.display()))?;
    let options = MountOptions { access: Access::ReadOnly, base: None };
    match Store::mount(media, &options) {
        Ok(mounted) => Ok(Some(mounted)),
        Err(MountError::Unformatted) => Ok(None),
        Err(error) => Err(anyhow!("can't mount {}: {error}", path.display())),
    }
}

/// Checks the store in a file; None where there is none yet.
fn look(path: &Path) -> Result<Option<(MountReport, CheckReport)>> {
    let Some((store, mount)) = mount(path)? else { return Ok(None) };
    let report = store.check().map_err(|error| anyhow!("can't check {}: {error}", path.display()))?;
    Ok(Some((mount, report)))
}
