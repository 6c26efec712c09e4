//! Opening a store, whatever it lies in.
//!
//! An image that is only to be read is opened *privately*: what a power cut left unfinished is finished in memory, and the file stays
//! as it is. So whatever only reads works on files that can't be written, and never changes one.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use twizzler_image::{ImageBackend, MediaFile, Store};
use twizzler_names::Names;
use twizzler_object::Space;
use twizzler_store::{Access, FormatOptions, MountError, MountOptions};

use crate::medium::Medium;
use crate::status::{Failure, Status};

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum For {
    /// Reading.
    Reading,
    /// Changing. Others may do the same, where the medium allows it.
    Changing,
    /// Changing what others must not look at meanwhile.
    Alone,
}

/// An open store.
pub struct Opened<M: Medium> {
    /// Where it is.
    pub path: PathBuf,
    /// Its objects.
    pub space: Space<M>,
    writes: bool,
    /// Keeps others from what they must not do meanwhile.
    _lock: Option<File>,
}

/// A store of whichever kind.
pub enum Any {
    /// In an NVM image.
    Image(Opened<ImageBackend>),
}

/// Runs `$do` with the store of whichever kind as `$store`.
macro_rules! with_store {
    ($any:expr, $store:ident => $do:expr) => {
        match $any {
            $crate::open::Any::Image($store) => $do,
        }
    };
}
pub(crate) use with_store;

impl<M: Medium> Opened<M> {
    /// The store below the objects.
    pub const fn medium(&self) -> &M {
        self.space.backend()
    }

    /// The names of its objects.
    ///
    /// # Errors
    /// They are damaged.
    pub fn names(&self) -> Result<Names<'_, M>, Failure> {
        Names::open(&self.space).map_err(Failure::of("the store's names"))
    }

    /// Ends in order: what was changed is on the host's disk.
    ///
    /// # Errors
    /// The host's.
    pub fn close(self) -> Result<(), Failure> {
        if self.writes {
            self.medium().close().map_err(|error| Failure::io(&self.path, &error))?;
        }
        Ok(())
    }
}

/// Opens the store at `path`.
///
/// # Errors
/// There is none, it is in use, or can't be used; what to do.
pub fn open(path: &Path, access: For) -> Result<Any, Failure> {
    match kind_of(path)? {
        Kind::Image => Ok(Any::Image(open_image(path, access)?)),
        Kind::Directory => {
            Err(Failure::new(Status::Damaged, format!("{}: is a directory, not a store", path.display())))
        }
    }
}

/// What lies at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A file, so an image.
    Image,
    /// A directory.
    Directory,
}

/// Tells what lies at `path`.
///
/// # Errors
/// Nothing does, or neither file nor directory.
pub fn kind_of(path: &Path) -> Result<Kind, Failure> {
    let shown = path.display();
    let metadata = path.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Status::Missing, format!("there is no store {shown}"))
            .advise(format!("`twz create {shown}` makes one")),
        _ => Failure::io(path, &error),
    })?;
    if metadata.is_dir() {
        Ok(Kind::Directory)
    } else if metadata.is_file() {
        Ok(Kind::Image)
    } else {
        Err(Failure::new(Status::Damaged, format!("{shown} is neither a file nor a directory")))
    }
}

fn open_image(path: &Path, access: For) -> Result<Opened<ImageBackend>, Failure> {
    let writes = access != For::Reading;
    let lock = lock_image(path, writes)?;
    let media = if writes { MediaFile::open(path) } else { MediaFile::open_private(path) };
    let media = media.map_err(|error| unmappable(path, &error))?;
    let options = MountOptions { access: Access::ReadWrite, base: None };
    let (store, _) = Store::mount(media, &options).map_err(|error| unmountable(path, &error))?;
    let space = Space::attach(ImageBackend::new(store)).map_err(Failure::of(path.display()))?;
    Ok(Opened { path: path.to_owned(), space, writes, _lock: Some(lock) })
}

/// Locks an image file: for us alone to write, beside other readers to read. A machine that runs on it holds it locked.
pub(crate) fn lock_image(path: &Path, writes: bool) -> Result<File, Failure> {
    let file = File::options().read(true).write(writes).open(path).map_err(|error| {
        let failure = Failure::io(path, &error);
        match failure.status {
            Status::Denied if writes => {
                failure.advise("this command writes: make the file writable, or copy it")
            }
            _ => failure,
        }
    })?;
    let locked = if writes { file.try_lock() } else { file.try_lock_shared() };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(Status::Conflict, format!("{} is in use", path.display()))
                .advise("wait until the machine or command that uses it has ended"))
        }
        Err(TryLockError::Error(error)) => Err(Failure::io(path, &error)),
    }
}

fn unmappable(path: &Path, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::InvalidData {
        Failure::new(Status::Damaged, format!("{}: the file is empty, not an image", path.display()))
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
pub fn format_image(path: &Path) -> Result<(), Failure> {
    let _lock = lock_image(path, true)?;
    let media = MediaFile::open(path).map_err(|error| unmappable(path, &error))?;
    let look = MountOptions { access: Access::ReadOnly, base: None };
    match Store::mount(MediaFile::open(path).map_err(|error| unmappable(path, &error))?, &look) {
        Err(MountError::Unformatted) => {}
        Ok(_) => {
            return Err(Failure::new(Status::Conflict, format!("{} is a store already", path.display())));
        }
        Err(error) => return Err(Failure::mount(path, &error)),
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
