//! `create`: makes an empty store.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use twizzler::{Durability, Options};

use crate::answer::Answer;
use crate::medium::Medium;
use crate::open::{For, Lock, format_image, open, with_store};
use crate::size::Bytes;
use crate::status::{Failure, Status};

/// Arguments of `create`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Where: nothing must be there yet, or a file of zeros
    pub store: PathBuf,
    /// Make an NVM image of this size, such as 1G: a sparse file, which takes the room that its content needs
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Bytes>,
    /// What a store in a directory survives; the lesser is faster, and all that a file system in memory can do
    #[arg(long, value_enum, default_value_t = Survives::PowerCut, conflicts_with = "size")]
    pub survives: Survives,
}

/// What committed transactions survive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Survives {
    /// A power cut at any moment
    PowerCut,
    /// The end of processes at any moment, not that of the machine
    ProcessKill,
}

impl From<Survives> for Durability {
    fn from(survives: Survives) -> Self {
        match survives {
            Survives::PowerCut => Self::PowerCut,
            Survives::ProcessKill => Self::ProcessKill,
        }
    }
}

/// Below this a store makes no sense.
const SIZE_MIN: u64 = 8 * Bytes::MIB;
/// QEMU wants NVDIMMs in multiples of this, so that they align with large pages.
const SIZE_STEP: u64 = 2 * Bytes::MIB;

/// What was made.
#[derive(Clone, Debug, Serialize)]
struct Made {
    kind: &'static str,
    uuid: String,
    free_bytes: u64,
    #[serde(skip)]
    path: PathBuf,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = Bytes(self.free_bytes);
        writeln!(f, "{}: an empty store, {} {}, {free} free", self.path.display(), self.kind, self.uuid)
    }
}

/// Makes the store.
///
/// # Errors
/// Something is there already; the host's.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let path = &arguments.store;
    match arguments.size {
        Some(size) => create_image(path, size)?,
        None if path.is_file() => format_image(path, Lock::Take)?,
        None => {
            let made = Options::new()
                .durability(arguments.survives.into())
                .create(path)
                .map_err(|error| Failure::store(path, &error))?;
            made.close().map_err(|error| Failure::store(path, &error))?;
        }
    }
    with_store!(open(path, For::Reading)?, store => {
        let about = store.medium().describe()?;
        let made = Made { kind: about.kind, uuid: about.uuid, free_bytes: about.free_bytes, path: path.clone() };
        Ok(Answer::of(&made))
    })
}

fn create_image(path: &Path, size: Bytes) -> Result<(), Failure> {
    if size.0 < SIZE_MIN || !size.0.is_multiple_of(SIZE_STEP) {
        return Err(Failure::new(Status::Usage, format!("{size} can't be the size of an image"))
            .advise("take a multiple of 2 MiB from 8 MiB up, such as --size 1G"));
    }
    let file = File::create_new(path).map_err(|error| {
        let failure = Failure::io(path, &error);
        match failure.status {
            Status::Conflict => Failure { what: format!("{} exists already", path.display()), ..failure }
                .advise("take another name; without --size, a file of zeros becomes a store"),
            Status::Missing => failure.advise("make its directory first"),
            _ => failure,
        }
    })?;
    let made = file
        .set_len(size.0)
        .map_err(|error| Failure::io(path, &error))
        .and_then(|()| format_image(path, Lock::Take));
    if made.is_err() {
        let _ = std::fs::remove_file(path);
    }
    made
}
