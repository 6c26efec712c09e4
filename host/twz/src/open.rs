//! Opening a store, whatever it lies in.
//!
//! An image that is only to be read is opened *privately*: what a power cut left unfinished is finished in memory, and the file stays
//! as it is. So whatever only reads works on files that can't be written, and never changes one. A directory is opened as every program
//! opens it, beside those that use it.

use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use twizzler::{Alone, HostedBackend, Mode, Options, StoreError};
use twizzler_image::{ImageBackend, MediaFile, Store};
use twizzler_names::Names;
use twizzler_object::{Guard, Recovery, Space};
use twizzler_store::check::Finding as StoreFinding;
use twizzler_store::{Access, FormatOptions, MountError, MountOptions, MountReport};

use crate::commands::check::{Finding, Kind};
use crate::medium::Medium;
use crate::status::{Failure, Status};

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum For {
    /// Reading.
    Reading,
    /// Reading, after the store's own structures were surveyed as they lie there.
    Checking,
    /// Changing. Others may do the same, where the medium allows it.
    Changing,
    /// Changing what others must not look at meanwhile.
    Alone,
    /// The same, whatever the state of the store: what can't be had is given up.
    Salvaging,
}

/// An open store.
pub struct Opened<M: Medium> {
    /// Where it is.
    pub path: PathBuf,
    /// Keeps others from opening it. Goes before the store is closed.
    alone: Option<Alone>,
    /// Its objects.
    pub space: M::Holder,
    /// What the survey of the store's own structures found; what opening it for changes has mended.
    pub survey: Survey,
    /// Keeps others from what they must not do meanwhile.
    _lock: Option<File>,
}

/// What there is to say about a store's own structures.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What else there is to say.
    pub notes: Vec<String>,
    /// What opening has mended, where the store was opened for changes.
    pub mended: Vec<String>,
}

/// A store of whichever kind.
pub enum Any {
    /// In an NVM image.
    Image(Opened<ImageBackend>),
    /// In a directory.
    Directory(Box<Opened<HostedBackend>>),
}

/// Runs `$do` with the store of whichever kind as `$store`.
macro_rules! with_store {
    ($any:expr, $store:ident => $do:expr) => {
        match $any {
            $crate::open::Any::Image($store) => $do,
            $crate::open::Any::Directory($store) => {
                let $store = *$store;
                $do
            }
        }
    };
}
pub(crate) use with_store;

impl<M: Medium> Opened<M> {
    /// A store that is open already.
    pub fn new(path: &Path, space: M::Holder) -> Self {
        Self { path: path.to_owned(), alone: None, space, survey: Survey::default(), _lock: None }
    }

    /// The store below the objects.
    pub fn medium(&self) -> &M {
        self.space.backend()
    }

    /// The names of its objects, under a guard of its space.
    ///
    /// # Errors
    /// They are damaged.
    pub fn names<'g>(&self, guard: &'g Guard<'g, M>) -> Result<Names<'g, M>, Failure> {
        Names::open(guard).map_err(Failure::of("the store's names"))
    }

    /// Ends in order: what was changed is on the host's disk.
    ///
    /// # Errors
    /// The host's.
    pub fn close(self) -> Result<(), Failure> {
        drop(self.alone);
        M::close(self.space).map_err(|error| Failure::io(&self.path, &error))
    }
}

/// Opens the store at `path`.
///
/// # Errors
/// There is none, it is in use, or can't be used; what to do.
pub fn open(path: &Path, access: For) -> Result<Any, Failure> {
    match place_of(path)? {
        Place::Image => Ok(Any::Image(open_image(path, access, Lock::Take)?)),
        Place::Directory => Ok(Any::Directory(Box::new(open_directory(path, access)?))),
    }
}

/// What lies at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A file, so an image.
    Image,
    /// A directory.
    Directory,
}

/// Tells what lies at `path`.
///
/// # Errors
/// Nothing does, or neither file nor directory.
pub fn place_of(path: &Path) -> Result<Place, Failure> {
    let shown = path.display();
    let metadata = path.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Status::Missing, format!("there is no store {shown}"))
            .advise(format!("`twz create {shown}` makes one")),
        _ => Failure::io(path, &error),
    })?;
    if metadata.is_dir() {
        Ok(Place::Directory)
    } else if metadata.is_file() {
        Ok(Place::Image)
    } else {
        Err(Failure::new(Status::Damaged, format!("{shown} is neither a file nor a directory")))
    }
}

/// Whether an image file's lock is still to be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lock {
    /// It is.
    Take,
    /// The caller holds it.
    Held,
}

/// Opens the store in an image file.
///
/// # Errors
/// As [`open`].
pub fn open_image(path: &Path, access: For, lock: Lock) -> Result<Opened<ImageBackend>, Failure> {
    let writes = matches!(access, For::Changing | For::Alone | For::Salvaging);
    let lock = match lock {
        Lock::Take => Some(lock_image(path, writes)?),
        Lock::Held => None,
    };
    let mut survey = if access == For::Checking { survey_image(path)? } else { Survey::default() };
    let media = if writes { MediaFile::open(path) } else { MediaFile::open_private(path) };
    let media = media.map_err(|error| unmappable(path, &error))?;
    let options = MountOptions { access: Access::ReadWrite, base: None };
    let (store, report) = Store::mount(media, &options).map_err(|error| unmountable(path, &error))?;
    if writes {
        // So that something can be removed when the disk is full.
        store.frames().keep_reserve();
    }
    let space = Space::attach(ImageBackend::new(store)).map_err(Failure::of(path.display()))?;
    survey.recovered(&space.recovery());
    if writes {
        survey.mended.extend(mended(&report));
    }
    Ok(Opened { survey, _lock: lock, ..Opened::new(path, Box::new(space)) })
}

/// Looks at an image as it lies there.
fn survey_image(path: &Path) -> Result<Survey, Failure> {
    let media = MediaFile::open_private(path).map_err(|error| unmappable(path, &error))?;
    let options = MountOptions { access: Access::ReadOnly, base: None };
    let (store, mount) = Store::mount(media, &options).map_err(|error| unmountable(path, &error))?;
    let report = store.check().map_err(twizzler_abi::Error::from)?;
    let finding = |found: &twizzler_store::check::Finding| match *found {
        StoreFinding::Object { id, why, page } => {
            let what = page
                .map_or(format!("its table entry: {why}"), |page| format!("{why}, from page {page:#x} on"));
            Finding { kind: Kind::Object, object: Some(id.to_string()), name: None, what }
        }
        StoreFinding::Metadata { id, why } => {
            let what = format!("its metadata: {why}");
            Finding { kind: Kind::Object, object: Some(id.to_string()), name: None, what }
        }
        other => Finding { kind: Kind::Store, object: None, name: None, what: other.to_string() },
    };
    let mut findings: Vec<Finding> = report.findings.iter().map(finding).collect();
    if findings.is_empty() {
        findings.extend(mount.quarantine.iter().map(|apart| Finding {
            kind: Kind::Object,
            object: Some(apart.id.to_string()),
            name: None,
            what: format!("in quarantine: {}", apart.why),
        }));
    }
    let ended = if mount.clean { "shut down" } else { "not shut down" };
    let notes = vec![
        format!("{} pages, {} tables", report.pages, report.tables),
        format!("last used by boot {}, {ended}", mount.boots),
    ];
    Ok(Survey { findings, notes, mended: Vec::new() })
}

impl Survey {
    /// Notes what recovery of the programs' transactions did.
    fn recovered(&mut self, recovery: &Recovery) {
        let Recovery { lanes, redone, undone, damaged } = *recovery;
        if redone + undone > 0 {
            self.mended.push(format!(
                "transactions of {lanes} programs that died: {redone} objects brought up to date, {undone} removed"
            ));
        }
        if damaged > 0 {
            self.findings.push(Finding {
                kind: Kind::Store,
                object: None,
                name: None,
                what: format!("{damaged} lanes, or objects that their records name, are damaged: a transaction may be lost"),
            });
        }
    }
}

/// What mounting an image for changes has mended.
fn mended(report: &MountReport) -> Vec<String> {
    let counted = [
        (u64::from(report.superblock_repaired), "a damaged copy of the superblock was written anew"),
        (report.words_damaged.into(), "words of the object table were restored from their copies"),
        (report.headers_damaged.into(), "buckets of the object table got a new first line"),
        (report.entries_completed, "pages that had become durable were made present"),
    ];
    let found = counted.iter().filter(|(count, _)| *count > 0);
    found.map(|&(count, what)| if count == 1 { what.to_owned() } else { format!("{count} {what}") }).collect()
}

/// Opens the store in a directory, beside others who use it.
fn open_directory(path: &Path, access: For) -> Result<Opened<HostedBackend>, Failure> {
    let options = Options::new().any_durability();
    let options = if access == For::Salvaging { options.salvage() } else { options };
    let store = match options.open(path) {
        // Whoever may not write can still look, if nothing is to be finished.
        Err(error) if matches!(access, For::Reading | For::Checking) && is_denied(&error) => {
            options.mode(Mode::Read).open(path)
        }
        result => result,
    };
    let store = store.map_err(|error| Failure::store(path, &error))?;
    let alone = match access {
        For::Alone | For::Salvaging => {
            Some(store.backend().keep_others_out().map_err(|error| Failure::store(path, &error))?)
        }
        _ => None,
    };
    let mut survey = Survey::default();
    survey.recovered(&store.recovery());
    if store.backend().replayed().cut {
        survey.mended.push("the log was damaged: records that can't be read are given up".to_owned());
    }
    Ok(Opened { alone, survey, ..Opened::new(path, store) })
}

fn is_denied(error: &StoreError) -> bool {
    match error {
        StoreError::ReadOnly
        | StoreError::System(twizzler_abi::Error::ReadOnly | twizzler_abi::Error::AccessDenied) => true,
        StoreError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        _ => false,
    }
}

/// Locks an image file: for us alone to write, beside other readers to read. A machine that runs on it holds it locked.
pub(crate) fn lock_image(path: &Path, writes: bool) -> Result<File, Failure> {
    loop {
        let file = open_to_lock(path, writes)?;
        let locked = if writes { file.try_lock() } else { file.try_lock_shared() };
        match locked {
            // Another file may have taken its place before it was locked: `import --replace` does that.
            Ok(()) if is_at(&file, path)? => return Ok(file),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let what = format!("{} is in use", path.display());
                return Err(Failure::new(Status::Conflict, what)
                    .advise("wait until the machine or command that uses it has ended"));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::io(path, &error)),
        }
    }
}

fn open_to_lock(path: &Path, writes: bool) -> Result<File, Failure> {
    File::options().read(true).write(writes).open(path).map_err(|error| {
        let failure = Failure::io(path, &error);
        match failure.status {
            Status::Denied if writes => {
                failure.advise("this command writes: make the file writable, or copy it")
            }
            _ => failure,
        }
    })
}

/// Whether `path` is the name of this file.
fn is_at(file: &File, path: &Path) -> Result<bool, Failure> {
    let [ours, named] = [file.metadata(), path.metadata()];
    let of = |about: io::Result<Metadata>| about.map(|about| (about.dev(), about.ino()));
    Ok(of(ours).map_err(|error| Failure::io(path, &error))?
        == of(named).map_err(|error| Failure::io(path, &error))?)
}

fn unmappable(path: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData {
        Failure::new(Status::Damaged, format!("{}: the file is too small to be an image", path.display()))
            .advise("name a store: `twz create` makes one")
    } else {
        Failure::io(path, error)
    }
}

pub(crate) fn unmountable(path: &Path, error: &MountError) -> Failure {
    match error {
        MountError::Unformatted => {
            let shown = path.display();
            Failure::new(Status::Missing, format!("{shown} holds no store: it is all zeros"))
                .advise(format!("`twz create {shown}` makes one in it"))
        }
        error => Failure::mount(path, error),
    }
}

/// Makes an empty store in a file, which is all zeros.
///
/// # Errors
/// The file is something else, too small, in use or can't be written.
pub fn format_image(path: &Path, lock: Lock) -> Result<(), Failure> {
    let _lock = match lock {
        Lock::Take => Some(lock_image(path, true)?),
        Lock::Held => None,
    };
    let media = MediaFile::open(path).map_err(|error| unmappable(path, &error))?;
    // A file that is nothing but a hole is not looked at: in a file system that is memory, that takes room too.
    if !media.region().is_hole() {
        let look = MountOptions { access: Access::ReadOnly, base: None };
        match Store::mount(MediaFile::open(path).map_err(|error| unmappable(path, &error))?, &look) {
            Err(MountError::Unformatted) => {}
            Ok(_) => {
                let what = format!("{} is a store already", path.display());
                return Err(Failure::new(Status::Conflict, what));
            }
            Err(error) => return Err(Failure::mount(path, &error)),
        }
    }
    let format = FormatOptions { uuid: random_uuid()?, base: FormatOptions::USUAL_BASE };
    Store::format(&media, &format).map_err(|error| Failure::mount(path, &error))?;
    media.region().sync().map_err(|error| Failure::io(path, &error))
}

/// A random UUID, version 4.
fn random_uuid() -> Result<[u8; 16], Failure> {
    let mut uuid = [0; 16];
    let source = Path::new("/dev/urandom");
    File::open(source)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut uuid))
        .map_err(|error| Failure::io(source, &error))?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}
