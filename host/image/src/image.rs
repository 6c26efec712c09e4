//! What people do with an image while no machine runs: put files in, get them out, list, check.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;

use twizzler_abi::ObjId;
use twizzler_abi::address::SLOT_BYTES;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::Space;
use twizzler_store::{Access, CheckReport, FormatOptions, MountError, MountOptions, MountReport};

use crate::backend::{ImageBackend, Store};
use crate::media::MediaFile;

/// Bytes of a file at most.
pub const FILE_BYTES_MAX: u64 = SLOT_BYTES - BASE_OFFSET;
/// Bytes moved at once.
const CHUNK_BYTES: usize = 2 << 20;

/// Why something could not be done with an image.
#[derive(Debug)]
pub enum ImageError {
    /// The image or the other file could not be read or written.
    Io(io::Error),
    /// The image can't be mounted.
    Mount(MountError),
    /// The name is wrong, or the store refused.
    Name(NameError),
    /// The file is longer than an object.
    TooLong,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Mount(error) => error.fmt(f),
            Self::Name(error) => error.fmt(f),
            Self::TooLong => write!(f, "a file can have {FILE_BYTES_MAX} bytes at most"),
        }
    }
}

impl std::error::Error for ImageError {}

impl From<io::Error> for ImageError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<NameError> for ImageError {
    fn from(error: NameError) -> Self {
        Self::Name(error)
    }
}

impl From<twizzler_abi::Error> for ImageError {
    fn from(error: twizzler_abi::Error) -> Self {
        Self::Name(NameError::System(error))
    }
}

/// A name in an image, and what it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The path, without a leading `/`.
    pub path: String,
    /// The object; None: a directory.
    pub object: Option<ObjId>,
    /// Bytes of the object; 0 where it is gone or can't be read.
    pub len_bytes: u64,
}

/// An image file that no machine uses. Whoever opens it holds a lock on the file.
pub struct Image {
    space: Space<ImageBackend>,
    report: MountReport,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("report", &self.report).finish_non_exhaustive()
    }
}

impl Image {
    /// Opens an image, finishes what a power cut interrupted, and makes a store where the file is all zeros.
    ///
    /// # Errors
    /// [`ImageError::Mount`] says what is wrong with the file, and what to do.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let options = MountOptions { access: Access::ReadWrite, base: None };
        let (store, report) = match Store::mount(MediaFile::open(path)?, &options) {
            Err(MountError::Unformatted) => {
                let media = MediaFile::open(path)?;
                let mut uuid = [0; 16];
                std::fs::File::open("/dev/urandom")?.read_exact(&mut uuid)?;
                let format = FormatOptions { uuid, base: FormatOptions::USUAL_BASE };
                Store::format(&media, &format).map_err(ImageError::Mount)?;
                Store::mount(media, &options)
            }
            result => result,
        }
        .map_err(ImageError::Mount)?;
        Ok(Self { space: Space::attach(ImageBackend::new(store))?, report })
    }

    /// What the mount found.
    #[must_use]
    pub const fn report(&self) -> &MountReport {
        &self.report
    }

    /// The objects.
    #[must_use]
    pub const fn space(&self) -> &Space<ImageBackend> {
        &self.space
    }

    /// Puts a file in under a name; directories on the way are made, an object that had the name goes. All of it happens, or
    /// nothing. Gives the number of bytes.
    ///
    /// # Errors
    /// [`ImageError::TooLong`]; no room; a bad name.
    pub fn put(&mut self, name: &str, from: &mut impl Read) -> Result<u64, ImageError> {
        let guard = self.space.enter();
        let names = Names::open(&guard)?;
        // Once: what comes from `from` can't be read again.
        guard.transact_once(|tx| {
            let name = name.strip_prefix('/').unwrap_or(name);
            for (end, _) in name.match_indices('/') {
                match names.make_directory(tx, &name[..end]) {
                    Ok(()) | Err(NameError::Exists) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match names.delete(tx, name) {
                Ok(_) | Err(NameError::NoSuchName) => {}
                Err(error) => return Err(ImageError::from(error)),
            }
            let area = names.create_any(tx, name)?;
            let mut buffer = vec![0; CHUNK_BYTES];
            let mut len = 0;
            loop {
                // Up to the next multiple in the object, so that whole chunks become 2 MiB leaves.
                let room = CHUNK_BYTES - (BASE_OFFSET as usize + len as usize) % CHUNK_BYTES;
                let got = read_full(from, &mut buffer[..room])?;
                if got == 0 {
                    break;
                }
                if len + got as u64 > FILE_BYTES_MAX {
                    return Err(ImageError::TooLong);
                }
                tx.write_at(area, len, &buffer[..got])?;
                len += got as u64;
            }
            tx.set_len_bytes(area, len)?;
            Ok(len)
        })
    }

    /// Gets the bytes of a named object out. Gives their number.
    ///
    /// # Errors
    /// [`NameError::NoSuchName`] and others of names; the host's.
    pub fn get(&self, name: &str, to: &mut impl Write) -> Result<u64, ImageError> {
        let guard = self.space.enter();
        let id = Names::open(&guard)?.object(name)?;
        let content = guard.content(guard.open_any(id, twizzler_object::Access::Read)?);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < content.len() {
            let len = (content.len() - at).min(buffer.len() as u64) as usize;
            guard.read(content, at, &mut buffer[..len])?;
            to.write_all(&buffer[..len])?;
            at += len as u64;
        }
        Ok(content.len())
    }

    /// All names, by path.
    ///
    /// # Errors
    /// Where the names can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let guard = self.space.enter();
        let names = Names::open(&guard)?;
        let mut directories = vec![String::new()];
        let mut all = Vec::new();
        while let Some(directory) = directories.pop() {
            for (name, entry) in names.list(&directory)? {
                let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
                let (object, len_bytes) = match entry {
                    Entry::Object(id) => (Some(id), self.space.stat(id).map_or(0, |stat| stat.len_bytes)),
                    Entry::Directory => {
                        directories.push(path.clone());
                        (None, 0)
                    }
                };
                all.push(Listed { path, object, len_bytes });
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(all)
    }

    /// Checks the whole store.
    ///
    /// # Errors
    /// Where there is not enough memory.
    pub fn check(&self) -> Result<CheckReport, ImageError> {
        self.space.backend().store().check().map_err(|error| twizzler_abi::Error::from(error).into())
    }

    /// Writes everything to the host's disk and ends in order.
    ///
    /// # Errors
    /// The host's.
    pub fn close(self) -> Result<(), ImageError> {
        let store = self.space.backend().store();
        store.shutdown().map_err(twizzler_abi::Error::from)?;
        store.media().region().sync()?;
        Ok(())
    }
}

/// Reads until the buffer is full or nothing comes any more.
fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match from.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(got) => len += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
