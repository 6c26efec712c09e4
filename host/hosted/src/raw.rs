//! Objects without the programming model: which there are, which of their bytes exist, and their content. For tools, which also
//! look at what is damaged, and make objects of bytes.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use twizzler_abi::address::{LARGE_BYTES, PAGE_BYTES};
use twizzler_abi::object::{HEADER_OFFSET, METADATA_OFFSET, Metadata};
use twizzler_abi::{Error, ObjId};

use crate::commit;
use crate::error::StoreError;
use crate::hosted::HostedBackend;
use crate::objects::{self, host, new_path_of, path_of};
use crate::open::read_superblock;
use crate::options::Durability;
use crate::segment::Gate;

/// What a store's description says, and how much room there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Description {
    /// Names the store.
    pub uuid: [u8; 16],
    /// Version of the layout.
    pub version: u32,
    /// What its transactions survive.
    pub durability: Durability,
    /// Bytes that the file system has left.
    pub free_bytes: u64,
}

/// While it lives, nobody else has the store open, and whoever wants to waits.
#[derive(Debug)]
pub struct Alone {
    _gate: Gate,
}

impl HostedBackend {
    /// What the store is.
    ///
    /// # Errors
    /// The host's.
    pub fn description(&self) -> Result<Description, StoreError> {
        let block = read_superblock(&self.base.disk, self.mode)?;
        let path = self.base.disk.path();
        let space = rustix::fs::statvfs(path).map_err(StoreError::io("looking at", path))?;
        Ok(Description {
            uuid: block.uuid,
            version: block.version(),
            durability: block.durability(),
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        })
    }

    /// Keeps all others out of the store. Drop it before the store is closed.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where somebody else has it open.
    pub fn keep_others_out(&self) -> Result<Alone, StoreError> {
        let gate = Gate::enter(&self.base.disk)?;
        if !self.base.segment.nobody_else(&gate) {
            return Err(StoreError::InUse { why: "by another process, and this must be done alone" });
        }
        // So that no record of the log is ever replayed over what is made anew under an old ID.
        self.base.the_log().map_or(Ok(()), |log| log.checkpoint(self.base.who()))?;
        Ok(Alone { _gate: gate })
    }

    /// All objects, by ID.
    ///
    /// # Errors
    /// The host's.
    pub fn ids(&self) -> Result<Vec<ObjId>, Error> {
        let mut ids = host(objects::list(&self.base.disk))?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// An object's file, or that of one that this program is making.
    fn file(&self, id: ObjId, writable: bool) -> Result<File, Error> {
        objects::open(&self.base.disk, &self.path(id), writable)
    }

    /// The bytes of an object that exist, as ranges of offsets in it, ascending and apart: whole pages, from that of the metadata on.
    /// Space that was set aside and never written does not count.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::Unreadable`].
    pub fn extents(&self, id: ObjId) -> Result<Vec<Range<u64>>, Error> {
        let file = self.file(id, false)?;
        let end = host(file.metadata())?.len().min(LARGE_BYTES);
        let mut extents: Vec<Range<u64>> = Vec::new();
        let mut at = METADATA_OFFSET;
        while at < end {
            let first = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
                Ok(first) => first,
                // Nothing more but holes.
                Err(Errno::NXIO) => break,
                Err(error) => return host(Err(error.into())),
            };
            at = host(rustix::fs::seek(&file, SeekFrom::Hole(first)).map_err(Into::into))?;
            let pages = first / PAGE_BYTES * PAGE_BYTES..at.next_multiple_of(PAGE_BYTES).min(LARGE_BYTES);
            match extents.last_mut() {
                Some(last) if last.end >= pages.start => last.end = pages.end,
                _ => extents.push(pages),
            }
        }
        Ok(extents)
    }

    /// Reads bytes of an object, from the offset of its metadata on. What does not exist reads as zeros.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::OutOfRange`], [`Error::Unreadable`].
    pub fn read_raw(&self, id: ObjId, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        check(METADATA_OFFSET..LARGE_BYTES, offset, buffer.len() as u64)?;
        let file = self.file(id, false)?;
        let mut done = 0;
        while done < buffer.len() {
            match host(file.read_at(&mut buffer[done..], offset + done as u64))? {
                // A file that was cut: `stat` says that it is damaged.
                0 => {
                    buffer[done..].fill(0);
                    break;
                }
                got => done += got,
            }
        }
        Ok(())
    }

    /// Begins to make an object of this metadata, so with its ID. Nobody else finds it before [`HostedBackend::publish_raw`]; it goes
    /// when this program ends without that.
    ///
    /// # Errors
    /// [`Error::Damaged`] for metadata that is not what its ID says; [`Error::OutOfNvm`], [`Error::ReadOnly`].
    pub fn make_raw(&self, metadata: &Metadata) -> Result<(), Error> {
        self.may_write()?;
        let inputs = metadata.verify(metadata.id)?;
        let new = new_path_of(self.base.owner, metadata.id);
        self.make_unpublished(metadata.id, &new, &inputs, metadata.fingerprint).map(drop)
    }

    /// The same for an object that is there already, and goes on being found as it is until [`HostedBackend::replace_raw`]. Nobody else
    /// may have the store open, and nobody may have mapped it.
    ///
    /// # Errors
    /// As [`HostedBackend::make_raw`]; [`Error::Busy`] while this program makes another one under the ID.
    pub fn remake_raw(&self, metadata: &Metadata) -> Result<(), Error> {
        self.may_write()?;
        let inputs = metadata.verify(metadata.id)?;
        let new = new_path_of(self.base.owner, metadata.id);
        if !self.unpublished.change(|ids| ids.insert(metadata.id)) {
            return Err(Error::Busy);
        }
        let made = objects::make(&self.base.disk, &new, &inputs, metadata.fingerprint);
        if made.is_err() {
            self.published(metadata.id);
        }
        made.map(drop)
    }

    /// Puts an object that was made anew in the place of the one that is there: at every moment it is the one or the other.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::Unreadable`]; [`Error::ReadOnly`] where the sync of the name fails: the store is poisoned then.
    pub fn replace_raw(&self, id: ObjId) -> Result<(), Error> {
        self.may_write()?;
        let new = new_path_of(self.base.owner, id);
        let file = objects::open(&self.base.disk, &new, true)?;
        host(self.base.disk.sync_file(&file, &new))?;
        host(self.base.disk.rename(&new, &path_of(id)))?;
        self.published(id);
        commit::sync_names(self.base.who())
    }

    /// Writes bytes of an object that is being made, from the offset of its header on.
    ///
    /// # Errors
    /// [`Error::OutOfNvm`] for a full disk, [`Error::NoSuchObject`], [`Error::OutOfRange`], [`Error::ReadOnly`].
    pub fn write_raw(&self, id: ObjId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.may_write()?;
        let new = new_path_of(self.base.owner, id);
        let file = objects::open(&self.base.disk, &new, true)?;
        check(HEADER_OFFSET..objects::class_of(&file)?.range_bytes(), offset, bytes.len() as u64)?;
        host(self.base.disk.write_at(&file, &new, offset, bytes))
    }

    /// Sets space aside for bytes of an object that is being made.
    ///
    /// # Errors
    /// As [`HostedBackend::write_raw`].
    pub fn reserve_raw(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.may_write()?;
        let new = new_path_of(self.base.owner, id);
        let file = objects::open(&self.base.disk, &new, true)?;
        check(HEADER_OFFSET..objects::class_of(&file)?.range_bytes(), offset, len_bytes)?;
        host(self.base.disk.allocate(&file, &new, offset, len_bytes))
    }

    /// Ends the making of an object: its content is on the disk, and everyone finds it.
    ///
    /// # Errors
    /// [`Error::Exists`] where somebody else has made it meanwhile; else as [`HostedBackend::replace_raw`].
    pub fn publish_raw(&self, id: ObjId) -> Result<(), Error> {
        self.may_write()?;
        let new = new_path_of(self.base.owner, id);
        let file = objects::open(&self.base.disk, &new, true)?;
        host(self.base.disk.sync_file(&file, &new))?;
        host(self.base.disk.rename_new(&new, &path_of(id)))?;
        self.published(id);
        commit::sync_names(self.base.who())
    }
}

/// Whether bytes lie within a range of an object.
fn check(within: Range<u64>, offset: u64, len_bytes: u64) -> Result<(), Error> {
    let end = offset.checked_add(len_bytes).filter(|&end| end <= within.end && offset >= within.start);
    end.map(drop).ok_or(Error::OutOfRange)
}
