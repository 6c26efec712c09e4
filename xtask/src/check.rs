//! `check`: looks for damage in an NVM file, and changes nothing. The same as `twz check`.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use twz::commands::check::{self, Report};
use twz::open::{For, Lock, open_image};
use twz::status::Status;

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
    let Some(report) = look(nvm.path())? else {
        println!("{}: all zeros; the first boot makes a store in it", path.display());
        return Ok(0);
    };
    print!("{report}");
    Ok(u8::from(!report.clean))
}

/// Tells whether an image is clean, and every pointer leads somewhere.
///
/// # Errors
/// What is wrong with it.
pub fn clean(nvm: &Nvm) -> Result<()> {
    match look(nvm.path())? {
        Some(report) if !report.clean || !report.dangling.is_empty() => bail!("check finds:\n{report}"),
        _ => Ok(()),
    }
}

/// Says on stderr why the machine will be without NVM, where the file can't be mounted. It is not changed.
pub fn warn(path: &Path) {
    match open_image(path, For::Reading, Lock::Held) {
        Err(failure) if failure.status != Status::Missing => {
            say(format!("warning: can't mount {}. The system starts without NVM.", failure.what));
        }
        _ => {}
    }
}

/// Checks the store in a file whose lock we hold; None where there is none yet.
fn look(path: &Path) -> Result<Option<Report>> {
    match check::image(path, Lock::Held) {
        Ok(report) => Ok(Some(report)),
        Err(failure) if failure.status == Status::Missing => Ok(None),
        Err(failure) => Err(anyhow!("can't check {}", failure.what)),
    }
}
