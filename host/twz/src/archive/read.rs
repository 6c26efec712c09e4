//! Reading an archive. Whatever it holds is untrusted: every record is checked before it is given out, and
//! [`verify`] reads all of it, with the hash in the end, before anything is done with it.

use std::fmt;
use std::io::{self, Read};

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::object::{HEADER_OFFSET, Metadata};
use twizzler_abi::{ObjId, SizeClass};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Head, MAGIC, ObjectRecord, RECORD_BYTES_MAX, Tag, VERSION, check};

/// Why an archive can't be read.
#[derive(Debug)]
pub enum ArchiveError {
    /// The host could not read it.
    Io(io::Error),
    /// It does not begin like one.
    NotOurs,
    /// It is of another version, or needs features that this one does not have.
    Newer {
        /// The version.
        version: u32,
        /// The features.
        features: u32,
    },
    /// It ends too early.
    Truncated,
    /// A check fails.
    Damaged {
        /// Where.
        at: u64,
        /// What.
        what: &'static str,
    },
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::NotOurs => f.write_str("is not an archive of objects"),
            Self::Newer { version, features } => write!(
                f,
                "is an archive of version {version} with features {features:#x}; this program knows version {VERSION}"
            ),
            Self::Truncated => f.write_str("the archive ends too early: it was cut off"),
            Self::Damaged { at, what } => write!(f, "the archive is damaged at byte {at}: {what}"),
        }
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

/// A record, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A directory.
    Directory(String),
    /// An object. Its pages follow.
    Object(Box<Archived>),
    /// Pages of the last object.
    Pages {
        /// Offset of the first.
        offset: u64,
        /// All of them.
        bytes: Vec<u8>,
    },
    /// Pages of the last object that exist and are zero.
    Zeros {
        /// Offset of the first.
        offset: u64,
        /// How long.
        len_bytes: u64,
    },
    /// A name of an object.
    Name(ObjId, String),
}

/// What an archive says of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archived {
    /// Beside the metadata.
    pub record: ObjectRecord,
    /// The metadata, which verifies.
    pub metadata: Metadata,
    /// How far it reaches: what it was made as, or large where it has been promoted.
    pub class: SizeClass,
    /// Its extension records.
    pub extension: Vec<u8>,
}

/// Gives the records of an archive.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    hasher: blake3::Hasher,
    at: u64,
    head: Head,
    object: Option<SizeClass>,
    /// Where its next pages begin at the earliest.
    next: u64,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`ArchiveError::NotOurs`], [`ArchiveError::Newer`].
    pub fn new(from: R) -> Result<Self, ArchiveError> {
        let head = Head::new_zeroed();
        let mut reader = Self { from, hasher: blake3::Hasher::new(), at: 0, head, object: None, next: 0 };
        let mut head = Head::new_zeroed();
        match reader.take(head.as_mut_bytes()) {
            Err(ArchiveError::Truncated) => return Err(ArchiveError::NotOurs),
            result => result?,
        }
        if head.magic != MAGIC {
            return Err(ArchiveError::NotOurs);
        }
        if head.version != VERSION || head.features != 0 {
            return Err(ArchiveError::Newer { version: head.version, features: head.features });
        }
        reader.head = head;
        Ok(reader)
    }

    /// The head.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.from.read_exact(buffer)?;
        self.hasher.update(buffer);
        self.at += buffer.len() as u64;
        Ok(())
    }

    /// The next record; None at the end, whose hash is then found right.
    ///
    /// # Errors
    /// A check fails.
    pub fn record(&mut self) -> Result<Option<Record>, ArchiveError> {
        let at = self.at;
        let damaged = |what| ArchiveError::Damaged { at, what };
        let hash = *self.hasher.finalize().as_bytes();
        let mut head = [0; 16];
        self.take(&mut head)?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let (number, checked) = (word(0), word(4));
        let len = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
        if len > RECORD_BYTES_MAX {
            return Err(damaged("a record is too long"));
        }
        let mut body = vec![0; len as usize];
        self.take(&mut body)?;
        if check(number, &body) != checked {
            return Err(damaged("a record's check is wrong"));
        }
        match Tag::try_from(number).map_err(|_| damaged("a record is of no known kind"))? {
            Tag::Directory => Ok(Some(Record::Directory(text(body).ok_or(damaged("a name is not UTF-8"))?))),
            Tag::Object => {
                let archived =
                    object(&body).ok_or(damaged("an object's metadata is not what its ID says"))?;
                (self.object, self.next) = (Some(archived.class), 0);
                Ok(Some(Record::Object(Box::new(archived))))
            }
            Tag::Pages => {
                let (offset, len) = (leading(&body), body.len().saturating_sub(8) as u64);
                let offset = offset.filter(|&offset| self.are_pages(offset, len));
                let offset = offset.ok_or(damaged("pages lie outside their object, or out of order"))?;
                Ok(Some(Record::Pages { offset, bytes: body.split_off(8) }))
            }
            Tag::Zeros => {
                let both = leading(&body).zip(body.get(8..).and_then(leading)).filter(|_| body.len() == 16);
                let both = both.filter(|&(offset, len)| self.are_pages(offset, len));
                let (offset, len_bytes) =
                    both.ok_or(damaged("pages lie outside their object, or out of order"))?;
                Ok(Some(Record::Zeros { offset, len_bytes }))
            }
            Tag::Name => {
                let id = ObjId::read_from_prefix(&body).map(|(id, _)| id);
                let id = id.map_err(|_| damaged("a name has no object"))?;
                let path = text(body.split_off(16)).ok_or(damaged("a name is not UTF-8"))?;
                Ok(Some(Record::Name(id, path)))
            }
            Tag::End if body == hash => Ok(None),
            Tag::End => Err(damaged("its hash is wrong")),
        }
    }

    /// Whether whole pages of the object that has begun lie there, from its header on, behind those that came before.
    fn are_pages(&mut self, offset: u64, len: u64) -> bool {
        let end = offset.checked_add(len);
        let before = std::mem::replace(&mut self.next, end.unwrap_or(u64::MAX));
        len > 0
            && offset >= before.max(HEADER_OFFSET)
            && offset.is_multiple_of(PAGE_BYTES)
            && len.is_multiple_of(PAGE_BYTES)
            && end.zip(self.object).is_some_and(|(end, class)| end <= class.range_bytes())
    }
}

fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok()
}

/// The number that these bytes begin with.
fn leading(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// What an object's record says, if its metadata is that of its ID.
fn object(body: &[u8]) -> Option<Archived> {
    let (record, rest) = ObjectRecord::read_from_prefix(body).ok()?;
    let (metadata, extension) = Metadata::read_from_prefix(rest).ok()?;
    let inputs = metadata.verify(record.id).ok()?;
    let promoted = match SizeClass::try_from(u8::try_from(record.size_class).ok()?).ok()? {
        SizeClass::Small => false,
        SizeClass::Large => true,
        SizeClass::Tiny => return None,
    };
    let class = if promoted { SizeClass::Large } else { inputs.flags.size_class() };
    let fits = extension.len() as u64 == u64::from(metadata.extension_bytes)
        && size_of::<Metadata>() + extension.len() <= PAGE_BYTES as usize;
    fits.then(|| Archived { record, metadata, class, extension: extension.to_vec() })
}

/// Reads all of an archive, so that nothing is done with one that is not whole.
///
/// # Errors
/// A check fails, or what the head says is not what follows.
pub fn verify(from: impl Read, mut seen: impl FnMut(Record)) -> Result<Head, ArchiveError> {
    let mut reader = Reader::new(from)?;
    let (mut objects, mut names) = (0, 0);
    while let Some(record) = reader.record()? {
        match &record {
            Record::Object(_) => objects += 1,
            Record::Directory(_) | Record::Name(..) => names += 1,
            Record::Pages { .. } | Record::Zeros { .. } => {}
        }
        seen(record);
    }
    let head = *reader.head();
    if (objects, names) != (head.objects, head.names) {
        return Err(ArchiveError::Damaged { at: reader.at, what: "its head promises other records" });
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::write::Writer;
    use twizzler_abi::id::IdInputs;
    use twizzler_abi::rights::ObjectFlags;

    fn archive() -> Vec<u8> {
        let inputs = IdInputs {
            nonce: [3; 16],
            owner: ObjId::NONE,
            flags: ObjectFlags::PERSISTENT,
            default_rights: twizzler_abi::Rights::READ,
        };
        let metadata = Metadata::new(&inputs, 9);
        let record = ObjectRecord { id: metadata.id, revocation: 0, size_class: 0, reserved: 0 };
        let head = Head {
            magic: MAGIC,
            version: VERSION,
            features: 0,
            objects: 1,
            names: 2,
            bytes: PAGE_BYTES,
            reserved: [0; 3],
        };
        let mut writer = Writer::new(Vec::new(), &head).expect("memory");
        let mut put = |tag, parts: &[&[u8]]| writer.record(tag, &parts.concat()).expect("memory");
        put(Tag::Directory, &[b"letters"]);
        put(Tag::Object, &[record.as_bytes(), metadata.as_bytes()]);
        put(Tag::Pages, &[&HEADER_OFFSET.to_le_bytes(), &[7; PAGE_BYTES as usize]]);
        put(Tag::Zeros, &[&(3 * PAGE_BYTES).to_le_bytes(), &PAGE_BYTES.to_le_bytes()]);
        put(Tag::Name, &[metadata.id.as_bytes(), b"letters/first"]);
        writer.finish().expect("memory").0
    }

    #[test]
    fn what_is_written_is_read() {
        let mut records = Vec::new();
        let head = verify(&archive()[..], |record| records.push(record)).expect("whole");
        assert_eq!((head.objects, head.names, records.len()), (1, 2, 5));
        assert_eq!(records[0], Record::Directory("letters".into()));
        assert!(
            matches!(&records[2], Record::Pages { offset: HEADER_OFFSET, bytes } if bytes[..] == [7; 4096])
        );
        assert!(matches!(&records[4], Record::Name(_, path) if path == "letters/first"));
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed() {
        let good = archive();
        for len in 0..good.len() {
            assert!(verify(&good[..len], |_| {}).is_err(), "cut to {len}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            // The number of bytes in the head is for progress alone; the hash covers it like all else.
            assert!(verify(&bad[..], |_| {}).is_err(), "byte {at}");
        }
    }

    #[test]
    fn newer_archives_and_other_files_say_so() {
        let mut newer = archive();
        newer[8] = 2;
        assert!(matches!(verify(&newer[..], |_| {}), Err(ArchiveError::Newer { version: 2, .. })));
        assert!(matches!(verify(&b"something else entirely"[..], |_| {}), Err(ArchiveError::NotOurs)));
    }
}
