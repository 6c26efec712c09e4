//! `export`: objects with their names go into an archive, and with them all that they lead to.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use twizzler::{HostedBackend, StoreError};
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::{HEADER_OFFSET, METADATA_OFFSET, Metadata};
use twizzler_abi::{Error, ObjId};
use twizzler_names::Entry;
use zerocopy::IntoBytes;

use super::backup::copy_directory;
use crate::answer::Answer;
use crate::archive::write::Writer;
use crate::archive::{Head, MAGIC, ObjectRecord, PAGES_BYTES_MAX, Tag, VERSION};
use crate::graph::{is_of_the_system, reach};
use crate::medium::Medium;
use crate::object::{class_of, metadata, stored_bytes};
use crate::open::{Any, For, Opened, open, with_store};
use crate::out::{Out, folder_of};
use crate::paths::{Named, clean};
use crate::progress;
use crate::size::Bytes;
use crate::status::{Failure, Status};

/// Arguments of `export`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
    /// The archive to write; - is standard output
    pub archive: PathBuf,
    /// Names of objects and directories to take [default: everything that has a name]
    pub names: Vec<String>,
    /// Replace the archive if there is one
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Exported {
    objects: u64,
    names: u64,
    archive: PathBuf,
    archive_bytes: u64,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.archive.as_os_str() == "-" {
            return Ok(());
        }
        let (archive, bytes) = (self.archive.display(), Bytes(self.archive_bytes));
        writeln!(f, "{archive}: {} objects, {} names, {bytes}", self.objects, self.names)
    }
}

/// `export`: the store as it is at one moment. A store in a directory is kept for us alone meanwhile; where others have it open, a
/// copy of it is exported, made as `backup` makes it.
///
/// # Errors
/// No such name; something can't be read; the archive can't be written: nothing is left of it then.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let opened = match open(&arguments.store, For::Reading)? {
        Any::Image(opened) => return finish(opened, arguments),
        Any::Directory(opened) => *opened,
    };
    let alone = match opened.medium().keep_others_out() {
        Ok(alone) => alone,
        Err(StoreError::InUse { .. }) => return from_copy(opened, arguments),
        Err(error) => return Err(Failure::store(&opened.path, &error)),
    };
    let answer = export(&opened, arguments);
    drop(alone);
    let closed = opened.close();
    answer.and_then(|answer| closed.map(|()| answer))
}

fn finish<M: Medium>(store: Opened<M>, arguments: &Arguments) -> Result<Answer, Failure> {
    let answer = export(&store, arguments);
    let closed = store.close();
    answer.and_then(|answer| closed.map(|()| answer))
}

/// Exports a copy of a store that others use.
fn from_copy(store: Opened<HostedBackend>, arguments: &Arguments) -> Result<Answer, Failure> {
    let to = &arguments.archive;
    let made = match to.as_os_str() == "-" {
        true => tempfile::tempdir(),
        false => tempfile::Builder::new().prefix(".twz-").tempdir_in(folder_of(to)),
    };
    let made = made.map_err(|error| Failure::io(folder_of(to), &error))?;
    let path = made.path().join("store");
    copy_directory(&store, &path)?;
    store.close()?;
    with_store!(open(&path, For::Reading)?, copy => finish(copy, arguments))
}

fn export<M: Medium>(store: &Opened<M>, arguments: &Arguments) -> Result<Answer, Failure> {
    let names = names(store, &arguments.names)?;
    let objects = objects(store, &names)?;
    let to = &arguments.archive;
    let archive_bytes = if to.as_os_str() == "-" {
        let out = io::stdout();
        if io::IsTerminal::is_terminal(&out) {
            return Err(Failure::new(
                Status::Conflict,
                "an archive is binary, and would garble the terminal",
            )
            .advise("name a file, or send it on through a pipe"));
        }
        write(store, &names, &objects, to, BufWriter::new(out.lock()))?.1
    } else {
        let mut out = Out::new(to, arguments.force)?;
        let (file, len_bytes) = write(store, &names, &objects, to, BufWriter::new(out.file()))?;
        file.into_inner().map_err(|error| Failure::io(to, &error.into_error()))?;
        out.finish()?;
        len_bytes
    };
    let (objects, names) = (objects.len() as u64, names.len() as u64);
    Ok(Answer::of(&Exported { objects, names, archive: to.clone(), archive_bytes }))
}

/// The names that go along: those asked for, all below them, and the directories on the way.
fn names<M: Medium>(store: &Opened<M>, asked: &[String]) -> Result<Vec<Named>, Failure> {
    if asked.is_empty() {
        return store.walk("");
    }
    let mut all = BTreeSet::new();
    for text in asked {
        let path = clean(text);
        let entry = store.names(&store.space.enter())?.lookup(path).map_err(Failure::of(text))?;
        for (end, _) in path.match_indices('/') {
            all.insert((path[..end].to_owned(), None));
        }
        match entry {
            Entry::Object(id) => drop(all.insert((path.to_owned(), Some(id)))),
            Entry::Directory => {
                if !path.is_empty() {
                    all.insert((path.to_owned(), None));
                }
                for named in store.walk(path)? {
                    let id = if let Entry::Object(id) = named.entry { Some(id) } else { None };
                    all.insert((named.path, id));
                }
            }
        }
    }
    let named = |(path, id): (String, Option<ObjId>)| Named {
        path,
        entry: id.map_or(Entry::Directory, Entry::Object),
    };
    Ok(all.into_iter().map(named).collect())
}

/// The objects of these names, and all that they lead to; the store's own don't go along.
fn objects<M: Medium>(store: &Opened<M>, names: &[Named]) -> Result<Vec<ObjId>, Failure> {
    let all = store.medium().ids()?;
    let mut roots = Vec::new();
    for named in names {
        if let Entry::Object(id) = named.entry {
            if all.binary_search(&id).is_err() {
                return Err(Failure::new(
                    Status::Damaged,
                    format!("{}: its object {id} does not exist", named.path),
                )
                .advise("`twz repair` removes names that lead nowhere"));
            }
            roots.push(id);
        }
    }
    let bar = progress::of_bytes(stored_bytes(store.medium(), &all), "Following pointers");
    let reached = reach(store.medium(), &all, roots, &bar);
    bar.finish_and_clear();
    if let Some((id, error)) = reached.unread.first() {
        return Err(Failure::of(id)(*error));
    }
    let mut objects = Vec::new();
    for id in reached.objects {
        if !is_of_the_system(metadata(store.medium(), id).map_err(Failure::of(id))?.nonce) {
            objects.push(id);
        }
    }
    objects.sort_unstable();
    Ok(objects)
}

fn write<M: Medium, W: Write>(
    store: &Opened<M>,
    names: &[Named],
    objects: &[ObjId],
    path: &Path,
    to: W,
) -> Result<(W, u64), Failure> {
    let failed = |error: io::Error| Failure::io(path, &error);
    let mut bytes = 0;
    for &id in objects {
        let extents = store.medium().extents(id).map_err(Failure::of(id))?;
        bytes += extents.iter().map(|extent| extent.end - extent.start).sum::<u64>();
    }
    let head = Head {
        magic: MAGIC,
        version: VERSION,
        features: 0,
        objects: objects.len() as u64,
        names: names.len() as u64,
        bytes,
        reserved: [0; 3],
    };
    let mut writer = Writer::new(to, &head).map_err(failed)?;
    for named in names.iter().filter(|named| named.entry == Entry::Directory) {
        writer.record(Tag::Directory, named.path.as_bytes()).map_err(failed)?;
    }
    let bar = progress::of_bytes(bytes, "Exporting");
    for &id in objects {
        object(store, id, &mut writer, path, &bar)?;
    }
    for named in names {
        if let Entry::Object(id) = named.entry {
            let body = [id.as_bytes(), named.path.as_bytes()].concat();
            writer.record(Tag::Name, &body).map_err(failed)?;
        }
    }
    bar.finish_and_clear();
    writer.finish().map_err(failed)
}

fn object<M: Medium, W: Write>(
    store: &Opened<M>,
    id: ObjId,
    writer: &mut Writer<W>,
    path: &Path,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io(path, &error);
    let medium = store.medium();
    let metadata = metadata(medium, id).map_err(Failure::of(id))?;
    metadata.verify(id).map_err(Failure::of(id))?;
    let mut extension = vec![0; metadata.extension_bytes as usize];
    if extension.len() + size_of::<Metadata>() > PAGE_BYTES as usize {
        return Err(Failure::of(id)(Error::Damaged));
    }
    medium
        .read_raw(id, METADATA_OFFSET + size_of::<Metadata>() as u64, &mut extension)
        .map_err(Failure::of(id))?;
    let size_class = class_of(medium, id).map_err(Failure::of(id))? as u32;
    let record = ObjectRecord { id, revocation: 0, size_class, reserved: 0 };
    let body = [record.as_bytes(), metadata.as_bytes(), &extension].concat();
    writer.record(Tag::Object, &body).map_err(failed)?;
    let mut chunk = vec![0; PAGES_BYTES_MAX as usize];
    for extent in medium.extents(id).map_err(Failure::of(id))? {
        let mut at = extent.start.max(HEADER_OFFSET);
        while at < extent.end {
            let len = (extent.end - at).min(PAGES_BYTES_MAX);
            let part = &mut chunk[..len as usize];
            medium.read_raw(id, at, part).map_err(Failure::of(id))?;
            if part.iter().all(|&byte| byte == 0) {
                let body = [at.to_le_bytes(), len.to_le_bytes()].concat();
                writer.record(Tag::Zeros, &body).map_err(failed)?;
            } else {
                let body = [&at.to_le_bytes(), &*part].concat();
                writer.record(Tag::Pages, &body).map_err(failed)?;
            }
            at += len;
            bar.inc(len);
        }
    }
    Ok(())
}
