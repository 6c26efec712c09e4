//! `backup`: a copy of a whole store, which is a store itself.
//!
//! It takes the room that the store's content takes, and appears under its name only when it is whole and on the disk.
//!
//! An image is copied as it is, while nothing may write to it. A store in a directory may be in use: first all objects are copied
//! while others go on; then one transaction locks them all, shared, and what has changed meanwhile is copied again. So the copy is the
//! store at one moment, and others wait only for the second part. The copy has a UUID of its own: both may be used at once.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use rustix::fs::{CWD, RenameFlags};
use serde::Serialize;
use tempfile::NamedTempFile;
use twizzler::{HostedBackend, Options, Store};
use twizzler_abi::object::DOMAINS;
use twizzler_abi::{Error, ObjId};
use twizzler_image::ImageBackend;
use twizzler_object::Access;

use crate::answer::Answer;
use crate::copy;
use crate::graph::is_of_the_system;
use crate::object::{header, metadata, stored_bytes};
use crate::open::{Any, For, Lock, Opened, lock_image, open, open_image};
use crate::out::{folder_of, sync_folder_of};
use crate::paths::names_id;
use crate::progress;
use crate::size::Bytes;
use crate::status::{Failure, Status};

/// Arguments of `backup`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
    /// The copy to make: nothing must be there yet
    pub copy: PathBuf,
}

#[derive(Clone, Debug, Serialize)]
struct Copied {
    copy: PathBuf,
    copied_bytes: u64,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} copied", self.copy.display(), Bytes(self.copied_bytes))
    }
}

/// `backup`.
///
/// # Errors
/// The copy exists; the host's: nothing is left of the copy then.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let Arguments { store, copy } = arguments;
    if copy.symlink_metadata().is_ok() {
        return Err(Failure::new(Status::Conflict, format!("{} exists already", copy.display()))
            .advise("give the copy a name that is not taken"));
    }
    let of = |path: &Path| path.canonicalize().map_err(|error| Failure::io(path, &error));
    if store.is_dir() && of(folder_of(copy))?.starts_with(of(store)?) {
        let what = format!("{} lies in the store itself", copy.display());
        return Err(
            Failure::new(Status::Conflict, what).advise("put the copy beside the store, or elsewhere")
        );
    }
    let copied_bytes = match open(store, For::Reading)? {
        Any::Image(opened) => image(opened, copy)?,
        Any::Directory(opened) => directory(*opened, copy)?,
    };
    Ok(Answer::of(&Copied { copy: copy.clone(), copied_bytes }))
}

/// Gives a finished copy its name, durably.
fn reveal(made: &Path, copy: &Path) -> Result<(), Failure> {
    rustix::fs::renameat_with(CWD, made, CWD, copy, RenameFlags::NOREPLACE)
        .map_err(|error| Failure::io(copy, &error.into()))?;
    sync_folder_of(copy)
}

fn image(opened: Opened<ImageBackend>, to: &Path) -> Result<u64, Failure> {
    // It was opened to see that it is one; its lock ends with it.
    let store = opened.path.clone();
    opened.close()?;
    let from = lock_image(&store, false)?;
    drop(open_image(&store, For::Reading, Lock::Held)?);
    let (made, copied) = copy_image(&from, to)?;
    made.as_file().sync_all().map_err(|error| Failure::io(to, &error))?;
    reveal(&made.into_temp_path(), to)?;
    Ok(copied)
}

/// Copies an image that nobody writes to into a file beside `to`, which goes unless it gets another name. Gives it, and how many bytes that was.
pub(super) fn copy_image(from: &File, to: &Path) -> Result<(NamedTempFile, u64), Failure> {
    let folder = folder_of(to);
    let mut made = tempfile::Builder::new()
        .prefix(".twz-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|error| Failure::io(folder, &error))?;
    let stored = from.metadata().map_or(0, |about| std::os::unix::fs::MetadataExt::blocks(&about) * 512);
    let bar = progress::of_bytes(stored, "Copying");
    let copied = copy::sparse(from, made.as_file_mut(), &bar).map_err(|error| Failure::io(to, &error))?;
    bar.finish_and_clear();
    Ok((made, copied))
}

fn directory(opened: Opened<HostedBackend>, to: &Path) -> Result<u64, Failure> {
    let folder = folder_of(to);
    let made = tempfile::Builder::new()
        .prefix(".twz-")
        .tempdir_in(folder)
        .map_err(|error| Failure::io(folder, &error))?;
    let path = made.path().join("store");
    let copied = copy_directory(&opened, &path)?;
    reveal(&path, to)?;
    opened.close()?;
    Ok(copied)
}

/// Copies a store that may be in use into a new one, as it is at one moment. Gives how many bytes that was.
pub(super) fn copy_directory(opened: &Opened<HostedBackend>, path: &Path) -> Result<u64, Failure> {
    let durability =
        opened.space.backend().description().map_err(|error| Failure::store(&opened.path, &error))?;
    let store = Options::new().durability(durability.durability).create(path);
    let store = store.map_err(|error| Failure::store(path, &error))?;
    let copied = Copy { from: opened, to: &store, versions: HashMap::new(), bytes: 0 }.all()?;
    store.close().map_err(|error| Failure::store(path, &error))?;
    Ok(copied)
}

/// A copy of a store in use.
struct Copy<'a> {
    from: &'a Opened<HostedBackend>,
    to: &'a Store,
    /// Of each object that was copied: its versions before that.
    versions: HashMap<ObjId, [u64; DOMAINS]>,
    bytes: u64,
}

impl Copy<'_> {
    fn all(&mut self) -> Result<u64, Failure> {
        let ids = self.ids()?;
        let bar = progress::of_bytes(stored_bytes(self.from.medium(), &ids), "Copying objects");
        ids.iter().try_for_each(|&id| self.object(id, &bar))?;
        bar.finish_and_clear();
        let from = self.from;
        let copied = from.space.transact(|tx| {
            let mut locked = Vec::new();
            // Until none is new: what others make while locks are taken can hang off what is not locked yet.
            loop {
                let ids = self.ids().map_err(Stopped::Because)?;
                if ids == locked {
                    break;
                }
                for &id in &ids {
                    match tx.open_any(id, Access::Read).and_then(|area| tx.lock_shared(area)) {
                        // Gone meanwhile.
                        Err(Error::NoSuchObject) => {}
                        result => result.map_err(|error| Stopped::Because(Failure::of(id)(error)))?,
                    }
                }
                locked = ids;
            }
            self.again(&locked).map_err(Stopped::Because)
        });
        match copied {
            Ok(()) => Ok(self.bytes),
            Err(Stopped::Because(failure)) => Err(failure),
            Err(Stopped::System(error)) => Err(Failure::of(from.path.display())(error)),
        }
    }

    /// What is to be copied: all but lanes, in which nothing is unfinished while all objects are locked.
    fn ids(&self) -> Result<Vec<ObjId>, Failure> {
        let mut ids = self.from.medium().ids()?;
        let names = names_id();
        ids.retain(|&id| {
            id == names || !metadata(self.from.medium(), id).is_ok_and(|found| is_of_the_system(found.nonce))
        });
        Ok(ids)
    }

    fn object(&mut self, id: ObjId, bar: &ProgressBar) -> Result<(), Failure> {
        let from = self.from.medium();
        let versions = match header(from, id) {
            Ok(header) => header.domain_versions,
            Err(Error::NoSuchObject) => return Ok(()),
            Err(error) => return Err(Failure::of(id)(error)),
        };
        match copy::object(from, self.to.backend(), id, bar) {
            Ok(bytes) => self.bytes += bytes,
            // Gone meanwhile.
            Err(Error::NoSuchObject) => return Ok(()),
            Err(error) => return Err(Failure::of(id)(error)),
        }
        self.versions.insert(id, versions);
        Ok(())
    }

    /// Copies again what has changed since. Everything is locked.
    fn again(&mut self, ids: &[ObjId]) -> Result<(), Failure> {
        let gone: Vec<ObjId> =
            self.versions.keys().copied().filter(|id| ids.binary_search(id).is_err()).collect();
        let changed = ids.iter().copied().filter(|&id| {
            let now = header(self.from.medium(), id).map(|header| header.domain_versions);
            now.ok().as_ref() != self.versions.get(&id)
        });
        let changed: Vec<ObjId> = changed.collect();
        for id in gone.iter().chain(changed.iter().filter(|id| self.versions.contains_key(id))) {
            twizzler_object::Backend::delete(self.to.backend(), *id).map_err(Failure::of(id))?;
        }
        changed.into_iter().try_for_each(|id| self.object(id, &ProgressBar::hidden()))
    }
}

/// Why the second part of a backup stopped.
enum Stopped {
    Because(Failure),
    System(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}
