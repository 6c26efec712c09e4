//! `import`: objects come out of an archive, with their IDs and names, so that pointers between them hold.
//!
//! 1. The whole archive is read and checked, and compared with what the store has. Nothing is changed if it is not whole, or if
//!    something is in the way and neither `--keep` nor `--replace` says what to do.
//! 2. Objects are made, which nobody finds before all are whole.
//! 3. Those that take the place of others do so, one after the other: at every moment each object is the old one or the new one.
//! 4. Their names are made.
//!
//! A power cut in between leaves objects without names, or only some of those that were to be replaced: the same command again
//! completes it. Where objects are replaced in an image, all of this is done to a copy of its file, which takes the file's place in the end.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use twizzler_abi::object::HEADER_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_names::{Entry, NameError};

use super::backup::copy_image;
use super::change::make_parents;
use super::maker::Maker;
use crate::answer::Answer;
use crate::archive::Head;
use crate::archive::read::{ArchiveError, Archived, Reader, Record, verify};
use crate::graph::is_of_the_system;
use crate::medium::Medium;
use crate::object::{class_of, is_equal, metadata};
use crate::open::{For, Lock, Opened, Place, lock_image, open, open_image, place_of, with_store};
use crate::out::sync_folder_of;
use crate::paths::{clean, join};
use crate::progress;
use crate::status::{Failure, Status};

/// Names that are made in one transaction.
const BATCH: usize = 256;
/// Conflicts that a message lists.
const SHOWN: usize = 10;

/// Arguments of `import`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
    /// The archive; - is standard input
    pub archive: PathBuf,
    /// Put all names below this directory
    #[arg(long, value_name = "DIRECTORY", default_value = "")]
    pub into: String,
    /// Where the store has something else under the same ID or name, keep that
    #[arg(long, conflicts_with = "replace")]
    pub keep: bool,
    /// Where the store has something else under the same ID or name, take the archive's; nobody else may use the store meanwhile
    #[arg(long)]
    pub replace: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Imported {
    /// Objects that are new.
    made: u64,
    /// Objects that were replaced.
    replaced: u64,
    /// Objects that were there already, the same.
    same: u64,
    /// Objects and names that were something else and were kept.
    kept: u64,
    /// Names that lead to something else now.
    names: u64,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, replaced, same, kept, names } = self;
        write!(f, "{made} objects and {names} names are new")?;
        for (count, what) in
            [(replaced, "objects replaced"), (same, "objects were there already"), (kept, "kept")]
        {
            if *count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        writeln!(f)
    }
}

fn unreadable(path: &Path) -> impl Fn(ArchiveError) -> Failure {
    let path = path.to_owned();
    move |error| match error {
        ArchiveError::Io(error) => Failure::io(&path, &error),
        ArchiveError::NotOurs => Failure::new(Status::Damaged, format!("{}: {error}", path.display()))
            .advise("`twz export` makes archives; plain files go in by `twz put`"),
        ArchiveError::Newer { .. } => Failure::new(Status::Damaged, format!("{}: {error}", path.display()))
            .advise("use the version that made it, or a newer one"),
        ArchiveError::Truncated | ArchiveError::Damaged { .. } => {
            Failure::new(Status::Damaged, format!("{}: {error}", path.display()))
                .advise("nothing was changed; export or copy it once more")
        }
    }
}

/// `import --replace`.
///
/// # Errors
/// As [`run`]; somebody else uses the store; an image's folder has no room for a copy.
pub fn replacing(arguments: &Arguments) -> Result<Answer, Failure> {
    match place_of(&arguments.store)? {
        Place::Directory => {
            with_store!(open(&arguments.store, For::Alone)?, store => finish(store, arguments))
        }
        Place::Image => {
            let failed = |error: io::Error| Failure::io(&arguments.store, &error);
            let path = arguments.store.canonicalize().map_err(failed)?;
            let from = lock_image(&path, true)?;
            drop(open_image(&path, For::Reading, Lock::Held)?);
            let (copy, _) = copy_image(&from, &path)?;
            let permissions = from.metadata().map_err(failed)?.permissions();
            copy.as_file().set_permissions(permissions).map_err(failed)?;
            let store = open_image(copy.path(), For::Changing, Lock::Held)?;
            let answer = finish(store, arguments)?;
            copy.as_file().sync_all().map_err(failed)?;
            // COMMIT: the image is the copy.
            copy.persist(&path).map_err(|error| failed(error.error))?;
            sync_folder_of(&path)?;
            Ok(answer)
        }
    }
}

fn finish<M: Medium>(store: Opened<M>, arguments: &Arguments) -> Result<Answer, Failure> {
    let answer = run(&store, arguments);
    let closed = store.close();
    answer.and_then(|answer| closed.map(|()| answer))
}

/// `import`.
///
/// # Errors
/// The archive is not whole; something is in the way; no room.
pub fn run<M: Medium>(store: &Opened<M>, arguments: &Arguments) -> Result<Answer, Failure> {
    let path = &arguments.archive;
    let mut file = open_archive(path)?;
    let bar = progress::of_bytes(file.metadata().map_or(0, |about| about.len()), "Checking the archive");
    let mut plan = Plan::new(store)?;
    let head =
        verify(bar.wrap_read(BufReader::new(&file)), |record| plan.see(record)).map_err(unreadable(path))?;
    bar.finish_and_clear();
    let names = plan.finish(clean(&arguments.into))?;
    if arguments.replace {
        refuse_directories(&names)?;
    } else if !arguments.keep {
        plan.refuse_conflicts(&names)?;
    }
    let replaced_bytes = if arguments.replace && M::SHARED { plan.differing_bytes } else { 0 };
    if plan.new_bytes.saturating_add(replaced_bytes) > store.medium().describe()?.free_bytes {
        return Err(Failure::of(arguments.store.display())(Error::OutOfNvm));
    }
    file.rewind().map_err(|error| Failure::io(path, &error))?;
    let mut done = Imported { same: plan.same, ..Imported::default() };
    plan.make_objects(&file, &head, arguments, &mut done)?;
    make_names(store, &names, arguments, &mut done)?;
    Ok(Answer::of(&done))
}

/// The archive as a file that can be read twice.
fn open_archive(path: &Path) -> Result<File, Failure> {
    let failed = |error: io::Error| Failure::io(path, &error);
    if path.as_os_str() != "-" {
        return File::open(path).map_err(failed);
    }
    let mut copy = tempfile::tempfile().map_err(failed)?;
    io::copy(&mut io::stdin().lock(), &mut copy).map_err(failed)?;
    copy.rewind().map_err(failed)?;
    Ok(copy)
}

/// What the archive has, compared with the store.
struct Plan<'a, M: Medium> {
    store: &'a Opened<M>,
    existing: HashSet<ObjId>,
    /// The object whose pages come, if the store has it too.
    current: Option<Compared>,
    /// All objects of the archive.
    archived: HashSet<ObjId>,
    differing: HashSet<ObjId>,
    /// Bytes of pages of objects that the store lacks, and of those that differ.
    new_bytes: u64,
    differing_bytes: u64,
    same: u64,
    directories: Vec<String>,
    names: Vec<(ObjId, String)>,
    problem: Option<Failure>,
}

/// An object that both have, as far as it was compared.
struct Compared {
    id: ObjId,
    equal: bool,
    /// What the archive said something of: ascending and apart.
    seen: Vec<Range<u64>>,
}

/// A name that is to be made, and what the store has there.
struct NamePlan {
    path: String,
    entry: Entry,
    /// The object; None for directories.
    id: Option<ObjId>,
    there: Option<Entry>,
}

impl NamePlan {
    fn conflicts(&self) -> bool {
        self.there.is_some_and(|there| there != self.entry)
    }
}

impl<'a, M: Medium> Plan<'a, M> {
    fn new(store: &'a Opened<M>) -> Result<Self, Failure> {
        Ok(Self {
            store,
            existing: store.medium().ids()?.into_iter().collect(),
            current: None,
            archived: HashSet::new(),
            differing: HashSet::new(),
            new_bytes: 0,
            differing_bytes: 0,
            same: 0,
            directories: Vec::new(),
            names: Vec::new(),
            problem: None,
        })
    }

    fn see(&mut self, record: Record) {
        match record {
            Record::Directory(path) => self.directories.push(path),
            Record::Name(id, path) => self.names.push((id, path)),
            Record::Object(archived) => self.begin(&archived),
            Record::Pages { offset, bytes } => self.compare(offset, bytes.len() as u64, &bytes),
            Record::Zeros { offset, len_bytes } => self.compare(offset, len_bytes, &[]),
        }
    }

    fn begin(&mut self, archived: &Archived) {
        self.end();
        let id = archived.record.id;
        if is_of_the_system(archived.metadata.nonce) {
            let what = format!("the archive has an object {id} that only the store itself may make");
            self.problem.get_or_insert(Failure::new(Status::Damaged, what));
        }
        if archived.record.revocation > 0 {
            let what = format!("object {id} has a revocation generation, which this version can't keep");
            self.problem.get_or_insert(Failure::new(Status::Damaged, what).advise("use a newer version"));
        }
        if !self.archived.insert(id) {
            let what = format!("the archive has object {id} twice");
            self.problem.get_or_insert(Failure::new(Status::Damaged, what));
        }
        if self.existing.contains(&id) {
            let medium = self.store.medium();
            let equal = metadata(medium, id).is_ok_and(|found| found == archived.metadata)
                && class_of(medium, id) == Ok(archived.class);
            self.current = Some(Compared { id, equal, seen: Vec::new() });
        }
    }

    /// Compares pages with those of the store's object. No bytes: all zero.
    fn compare(&mut self, offset: u64, len: u64, bytes: &[u8]) {
        let Some(current) = &mut self.current else {
            self.new_bytes = self.new_bytes.saturating_add(len);
            return;
        };
        current.seen.push(offset..offset + len);
        current.equal =
            current.equal && is_equal(self.store.medium(), current.id, offset..offset + len, bytes);
    }

    /// Ends the comparison of an object: what the archive said nothing of must be zero.
    fn end(&mut self) {
        let Some(Compared { id, mut equal, seen }) = self.current.take() else { return };
        let mut rest = &seen[..];
        let medium = self.store.medium();
        let extents = medium.extents(id);
        equal = equal && extents.is_ok();
        for extent in extents.unwrap_or_default() {
            let mut at = extent.start.max(HEADER_OFFSET);
            while let Some(range) = rest.first().filter(|range| range.start < extent.end) {
                equal = equal && (range.start <= at || is_equal(medium, id, at..range.start, &[]));
                at = at.max(range.end);
                if range.end > extent.end {
                    // It may say something of the next one too.
                    break;
                }
                rest = &rest[1..];
            }
            equal = equal && (at >= extent.end || is_equal(medium, id, at..extent.end, &[]));
        }
        if equal {
            self.same += 1;
        } else {
            self.differing.insert(id);
            let bytes: u64 = seen.iter().map(|range| range.end - range.start).sum();
            self.differing_bytes = self.differing_bytes.saturating_add(bytes);
        }
    }

    /// All was seen. Gives the names, with what the store has there.
    fn finish(&mut self, into: &str) -> Result<Vec<NamePlan>, Failure> {
        self.end();
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        let known = |id: &ObjId| self.archived.contains(id) || self.existing.contains(id);
        if let Some((id, path)) = self.names.iter().find(|(id, _)| !known(id)) {
            let what =
                format!("the archive names {path}, but its object {id} is neither there nor in the store");
            return Err(Failure::new(Status::Damaged, what));
        }
        let guard = self.store.space.enter();
        let names = self.store.names(&guard)?;
        let contradicts = |path: &str, how: &str| {
            Failure::new(Status::Damaged, format!("the archive has the name {path} {how}"))
        };
        let mut all = BTreeMap::new();
        if !into.is_empty() {
            all.insert(into.to_owned(), None);
        }
        all.extend(self.directories.iter().map(|path| (join(into, path), None)));
        for (id, path) in &self.names {
            if all.insert(join(into, path), Some(*id)).is_some_and(|other| other != Some(*id)) {
                return Err(contradicts(path, "twice"));
            }
        }
        // An archive need not say that there are directories on the way. Something else may be there.
        let mut on_the_way = HashSet::new();
        for path in all.keys() {
            for (end, _) in path.match_indices('/') {
                match all.get(&path[..end]) {
                    Some(Some(_)) => {
                        return Err(contradicts(&path[..end], "for an object and for a directory"));
                    }
                    Some(None) => {}
                    None => drop(on_the_way.insert(path[..end].to_owned())),
                }
            }
        }
        all.extend(on_the_way.iter().map(|path| (path.clone(), None)));
        let plan = |(path, id): (String, Option<ObjId>)| {
            let there = match names.lookup(&path) {
                Ok(entry) => Some(entry),
                Err(NameError::NoSuchName | NameError::NotADirectory) => None,
                Err(error) => return Err(Failure::of(&path)(error)),
            };
            Ok(NamePlan { entry: id.map_or(Entry::Directory, Entry::Object), path, id, there })
        };
        let mut all = all.into_iter().map(plan).collect::<Result<Vec<_>, _>>()?;
        all.retain(|name| name.conflicts() || !on_the_way.contains(&name.path));
        Ok(all)
    }

    fn refuse_conflicts(&self, names: &[NamePlan]) -> Result<(), Failure> {
        let mut all: Vec<String> =
            self.differing.iter().map(|id| format!("object {id} is in the store, and differs")).collect();
        all.sort_unstable();
        let taken = names.iter().filter(|name| name.conflicts());
        all.extend(taken.map(|name| format!("name {} leads to something else in the store", name.path)));
        if all.is_empty() {
            return Ok(());
        }
        let count = all.len();
        all.truncate(SHOWN);
        if count > SHOWN {
            all.push(format!("and {} more", count - SHOWN));
        }
        Err(Failure::new(Status::Conflict, format!("the store has something else:\n  {}", all.join("\n  ")))
            .advise("nothing was changed; --replace takes the archive's, --keep the store's"))
    }

    /// Makes the objects that the store lacks, and those that are to be replaced.
    fn make_objects(
        &self,
        file: &File,
        head: &Head,
        arguments: &Arguments,
        done: &mut Imported,
    ) -> Result<(), Failure> {
        let mut maker = Maker::new(self.store);
        let bar = progress::of_bytes(head.bytes, "Importing");
        let mut pass = || {
            let failed = unreadable(&arguments.archive);
            let mut reader = Reader::new(BufReader::new(file)).map_err(&failed)?;
            while let Some(record) = reader.record().map_err(&failed)? {
                if let Record::Pages { bytes, .. } = &record {
                    bar.inc(bytes.len() as u64);
                }
                match record {
                    Record::Object(archived) => {
                        let id = archived.record.id;
                        let differs = self.differing.contains(&id);
                        let wanted = !self.existing.contains(&id) || differs && arguments.replace;
                        maker.end()?;
                        if wanted {
                            maker.begin(&archived, differs)?;
                            *(if differs { &mut done.replaced } else { &mut done.made }) += 1;
                        } else if differs {
                            done.kept += 1;
                        }
                    }
                    Record::Pages { offset, bytes } => maker.pages(offset, &bytes)?,
                    Record::Zeros { offset, len_bytes } => maker.zeros(offset, len_bytes)?,
                    Record::Directory(_) | Record::Name(..) => {}
                }
            }
            maker.end()?;
            maker.reveal()
        };
        let result = pass();
        bar.finish_and_clear();
        result.inspect_err(|_| maker.undo())
    }
}

/// No object takes the place of a directory, with all that is in it.
fn refuse_directories(names: &[NamePlan]) -> Result<(), Failure> {
    let taken = names.iter().find(|name| name.id.is_some() && name.there == Some(Entry::Directory));
    taken.map_or(Ok(()), |NamePlan { path, .. }| {
        let what = format!("name {path} is a directory in the store, and leads to an object in the archive");
        Err(Failure::new(Status::Conflict, what)
            .advise("nothing was changed; move the directory away, or import --into another one"))
    })
}

fn make_names<M: Medium>(
    store: &Opened<M>,
    all: &[NamePlan],
    arguments: &Arguments,
    done: &mut Imported,
) -> Result<(), Failure> {
    let guard = store.space.enter();
    let names = store.names(&guard)?;
    let is_kept = |name: &&NamePlan| arguments.keep && name.conflicts();
    let kept: HashSet<&str> = all.iter().filter(is_kept).map(|name| &*name.path).collect();
    done.kept += kept.len() as u64;
    let is_below_kept =
        |name: &NamePlan| name.path.match_indices('/').any(|(end, _)| kept.contains(&name.path[..end]));
    let wanted: Vec<&NamePlan> = all
        .iter()
        .filter(|name| (name.there.is_none() || name.conflicts()) && !is_kept(name) && !is_below_kept(name))
        .collect();
    for batch in wanted.chunks(BATCH) {
        let made = guard.transact(|tx| {
            for name in batch {
                let wrong = |error| Wrong(name.path.clone(), error);
                match name.there {
                    Some(Entry::Object(_)) => drop(names.unbind(tx, &name.path).map_err(wrong)?),
                    Some(Entry::Directory) => return Err(Wrong(name.path.clone(), NameError::IsADirectory)),
                    None => {}
                }
                make_parents(&names, tx, &name.path).map_err(wrong)?;
                match name.id {
                    Some(id) => names.bind(tx, &name.path, id).map_err(wrong)?,
                    None => match names.make_directory(tx, &name.path) {
                        Ok(()) | Err(NameError::Exists) => {}
                        Err(error) => return Err(wrong(error)),
                    },
                }
            }
            Ok(())
        });
        made.map_err(|Wrong(path, error)| Failure::of(path)(error))?;
    }
    done.names = wanted.len() as u64;
    Ok(())
}

/// A name in a transaction, with what was wrong with it.
struct Wrong(String, NameError);

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self("the store".to_owned(), error.into())
    }
}
