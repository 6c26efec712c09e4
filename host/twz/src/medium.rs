//! What commands ask of a store, whatever it lies in: the programming model ([`Backend`]), and objects as bytes, without it.
//!
//! Raw access is for tools: it lists what no name leads to, copies what exists of an object, and looks at what is damaged.

mod directory;
mod image;

use std::io;
use std::ops::{Deref, Range};

use serde::Serialize;
use twizzler_abi::object::Metadata;
use twizzler_abi::{Error, ObjId, SizeClass};
use twizzler_object::{Backend, Space};

/// A store.
pub trait Medium: Backend + Sized {
    /// Others may change it while we have it open.
    const SHARED: bool;

    /// What an open store is held by.
    type Holder: Deref<Target = Space<Self>>;

    /// What it is and how full.
    ///
    /// # Errors
    /// The system's.
    fn describe(&self) -> Result<Description, Error>;

    /// All objects, damaged ones too, by ID.
    ///
    /// # Errors
    /// [`Error::Damaged`] where they can't be listed.
    fn ids(&self) -> Result<Vec<ObjId>, Error>;

    /// The bytes of an object that exist: whole pages as ranges of offsets, ascending and apart, from that of the metadata on.
    ///
    /// # Errors
    /// [`Error::NoSuchObject`], [`Error::Damaged`].
    fn extents(&self, id: ObjId) -> Result<Vec<Range<u64>>, Error>;

    /// Reads bytes of an object, from the offset of its metadata on. What does not exist reads as zeros.
    ///
    /// # Errors
    /// As [`Medium::extents`]; [`Error::OutOfRange`].
    fn read_raw(&self, id: ObjId, offset: u64, buffer: &mut [u8]) -> Result<(), Error>;

    /// Begins to make an object of this metadata, which verifies, so with its ID. It has no pages yet; where several programs share
    /// the store, none finds it before [`Medium::publish`]. One that was made small may have been promoted: its class now.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::OutOfNvm`]; [`Error::NotSupported`] for extension records that the store can't keep.
    fn make(&self, metadata: &Metadata, extension: &[u8], class: SizeClass) -> Result<(), Error>;

    /// Writes bytes of an object that nobody uses, from the offset of its header on.
    ///
    /// # Errors
    /// As [`Medium::read_raw`]; [`Error::OutOfNvm`], [`Error::Busy`].
    fn write_raw(&self, id: ObjId, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// Makes pages of an object that is being made exist, as zeros.
    ///
    /// # Errors
    /// As [`Medium::write_raw`].
    fn reserve_raw(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error>;

    /// Ends the making of an object: all of it is on the host's disk, if closing the store would not do, and others find it.
    ///
    /// # Errors
    /// [`Error::Exists`], where somebody else has made it meanwhile; [`Error::Unreadable`] where the host can't write it.
    fn publish(&self, id: ObjId) -> Result<(), Error>;

    /// The same as [`Medium::make`] for an object that is there already. Nobody else uses the store meanwhile.
    ///
    /// # Errors
    /// As [`Medium::make`].
    fn remake(&self, metadata: &Metadata, extension: &[u8], class: SizeClass) -> Result<(), Error>;

    /// The same as [`Medium::publish`] for an object that was begun by [`Medium::remake`].
    ///
    /// # Errors
    /// As [`Medium::publish`].
    fn replace(&self, id: ObjId) -> Result<(), Error>;

    /// What is stored from now on is stored to remove something: where a store keeps room back for that, it may be used.
    fn removes(&self) {}

    /// Closes the store in order. What was changed is on the host's disk.
    ///
    /// # Errors
    /// The host's.
    fn close(holder: Self::Holder) -> io::Result<()>;
}

/// What a store is, and how full.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// `image` or `directory`.
    pub kind: &'static str,
    /// What tells it apart from all others.
    pub uuid: String,
    /// Version of its format.
    pub version: u32,
    /// Objects, damaged ones too.
    pub objects: u64,
    /// Bytes that objects and the store's own tables take.
    pub used_bytes: u64,
    /// Bytes that are left.
    pub free_bytes: u64,
}

/// A UUID as text.
#[must_use]
pub fn uuid_text(uuid: [u8; 16]) -> String {
    let text = format!("{:032x}", u128::from_be_bytes(uuid));
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    parts.join("-")
}
