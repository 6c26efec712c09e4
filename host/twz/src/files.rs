//! Files: objects of plain bytes. What `put`, `get` and `cat` do, and `cargo run -- run --put` likewise.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use twizzler_abi::address::{LARGE_BYTES, PAGE_BYTES, SLOT_BYTES};
use twizzler_abi::call::USUAL_RIGHTS;
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header, Metadata};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, SizeClass};
use twizzler_names::{Entry, NameError};
use zerocopy::{FromZeros, IntoBytes};

use crate::commands::change::make_parents;
use crate::medium::Medium;
use crate::object::{Kind, facts};
use crate::open::Opened;
use crate::paths::{by_id, walk_by};
use crate::status::{Failure, Status, missing};

/// Bytes of a file at most, and from which on its object has to be a large one.
const FILE_BYTES_MAX: u64 = LARGE_BYTES - BASE_OFFSET;
const SMALL_FILE_BYTES_MAX: u64 = SLOT_BYTES - BASE_OFFSET;
/// Bytes moved at once.
const CHUNK_BYTES: usize = 2 << 20;

/// What to do about objects that hold something else than a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typed {
    /// Refuse.
    Refuse,
    /// Take or replace them all the same.
    Accept,
}

impl From<bool> for Typed {
    /// What `--force` says.
    fn from(force: bool) -> Self {
        if force { Self::Accept } else { Self::Refuse }
    }
}

/// The object of a name or ID, which must hold a file's bytes, and their number.
///
/// # Errors
/// There is none, it is damaged, or typed.
pub fn find<M: Medium>(store: &Opened<M>, name: &str, typed: Typed) -> Result<(ObjId, u64), Failure> {
    let id = store.object(name)?;
    let facts = facts(store.medium(), id);
    match facts.kind {
        Kind::Missing => Err(Failure::of(name)(Error::NoSuchObject)),
        Kind::Damaged => Err(Failure::of(name)(Error::Damaged)),
        Kind::Typed if typed == Typed::Refuse => Err(Failure::new(
            Status::Conflict,
            format!("{name} holds typed data ({}), not a file", facts.type_name.unwrap_or_default()),
        )
        .advise("`twz show` shows it, `twz export` takes it elsewhere; --force gives its bytes")),
        Kind::File | Kind::Typed => Ok((id, facts.len_bytes.min(FILE_BYTES_MAX))),
    }
}

/// Reads a file's bytes in pieces.
///
/// # Errors
/// The object can't be read; those of `each`.
pub fn read<M: Medium>(
    store: &Opened<M>,
    id: ObjId,
    len: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut chunk = vec![0; CHUNK_BYTES.min(len as usize)];
    let mut at = 0;
    while at < len {
        let part = &mut chunk[..((len - at) as usize).min(CHUNK_BYTES)];
        store.medium().read_raw(id, BASE_OFFSET + at, part).map_err(Failure::of(id))?;
        each(part)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// Gets a file's bytes out into a host file, whose holes become those of the copy.
///
/// # Errors
/// The object can't be read, the file not be written.
pub fn get<M: Medium>(
    store: &Opened<M>,
    (id, len_bytes): (ObjId, u64),
    out: &mut File,
    file: &Path,
) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io(file, &error);
    out.set_len(len_bytes).map_err(failed)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    for extent in store.medium().extents(id).map_err(Failure::of(id))? {
        let end = extent.end.min(BASE_OFFSET + len_bytes);
        let mut at = extent.start.max(BASE_OFFSET);
        while at < end {
            let part = &mut chunk[..((end - at) as usize).min(CHUNK_BYTES)];
            store.medium().read_raw(id, at, part).map_err(Failure::of(id))?;
            out.seek(SeekFrom::Start(at - BASE_OFFSET)).map_err(failed)?;
            out.write_all(part).map_err(failed)?;
            at += part.len() as u64;
        }
    }
    Ok(())
}

/// Puts what `from` gives in under a name; directories on the way are made, a file that had the name goes. All of it happens, or
/// nothing. Gives the object and its length. `file` is what messages call it.
///
/// # Errors
/// It can't be read, is too long, or does not fit; the name is taken by something that is no file.
pub fn put<M: Medium>(
    store: &Opened<M>,
    name: &str,
    from: &mut impl Read,
    file: &Path,
    typed: Typed,
) -> Result<(ObjId, u64), Failure> {
    let guard = store.space.enter();
    let names = store.names(&guard)?;
    may_replace(store, names.lookup(name), name, typed)?;
    let (id, len) = make_file(store, name, from, file)?;
    let named = guard.transact(|tx| {
        // Others may have changed the names, while the file was read.
        tx.lock(names.area())?;
        let old = may_replace(store, names.lookup_by(tx, name), name, typed)?;
        make_parents(&names, tx, name).map_err(Failure::of(name))?;
        if let Some(old) = old {
            names.unbind(tx, name).map_err(Failure::of(name))?;
            if !by_id(walk_by(&names, tx, "")?).contains_key(&old) {
                tx.delete(old).or_else(missing).map_err(Failure::of(name))?;
            }
        }
        names.bind(tx, name, id).map_err(Failure::of(name))
    });
    if named.is_err() {
        // Where this fails too, `gc` finds it.
        let _ = store.medium().delete(id);
    }
    named.map(|()| (id, len))
}

/// The object that has the name that a file is to get, which is one that may go.
fn may_replace<M: Medium>(
    store: &Opened<M>,
    there: Result<Entry, NameError>,
    name: &str,
    typed: Typed,
) -> Result<Option<ObjId>, Failure> {
    match there {
        Ok(Entry::Object(id)) => {
            if typed == Typed::Refuse && facts(store.medium(), id).kind == Kind::Typed {
                return Err(Failure::new(Status::Conflict, format!("{name} holds typed data, not a file"))
                    .advise("take another name, or remove it first; `twz put --force` replaces it"));
            }
            Ok(Some(id))
        }
        Ok(Entry::Directory) => Err(Failure::of(name)(NameError::IsADirectory)),
        Err(_) => Ok(None),
    }
}

/// Makes an object of a file's bytes. It is whole, and on the disk, before it gets its name.
fn make_file<M: Medium>(
    store: &Opened<M>,
    name: &str,
    from: &mut impl Read,
    file: &Path,
) -> Result<(ObjId, u64), Failure> {
    let medium = store.medium();
    let mut nonce = [0; 16];
    medium.random(&mut nonce).map_err(Failure::of(name))?;
    let inputs =
        IdInputs { nonce, owner: ObjId::NONE, flags: ObjectFlags::PERSISTENT, default_rights: USUAL_RIGHTS };
    let metadata = Metadata::new(&inputs, 0);
    let id = metadata.id;
    medium.make(&metadata, &[], SizeClass::Small).map_err(Failure::of(name))?;
    let made = fill(medium, id, from, file).and_then(|len| {
        let header = Header { len_bytes: len, ..Header::new_zeroed() };
        medium.write_raw(id, HEADER_OFFSET, header.as_bytes()).map_err(Failure::of(name))?;
        medium.publish(id).map_err(Failure::of(name))?;
        Ok((id, len))
    });
    if made.is_err() {
        let _ = medium.delete(id);
    }
    made
}

/// Fills an object that is being made. Gives the number of bytes.
fn fill<M: Medium>(medium: &M, id: ObjId, from: &mut impl Read, file: &Path) -> Result<u64, Failure> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut len = 0;
    loop {
        // Up to the next multiple in the object, so that whole chunks become 2 MiB leaves.
        let room = CHUNK_BYTES - (BASE_OFFSET as usize + len as usize) % CHUNK_BYTES;
        let got = read_full(from, &mut buffer[..room]).map_err(|error| Failure::io(file, &error))?;
        if got == 0 {
            return Ok(len);
        }
        if len + got as u64 > FILE_BYTES_MAX {
            return Err(too_long(file));
        }
        if len <= SMALL_FILE_BYTES_MAX && len + got as u64 > SMALL_FILE_BYTES_MAX {
            medium.promote(id).map_err(Failure::of(file.display()))?;
        }
        // What is zero need not exist.
        if buffer[..got].iter().any(|&byte| byte != 0) {
            let at = BASE_OFFSET + len;
            let pages = at / PAGE_BYTES * PAGE_BYTES..(at + got as u64).next_multiple_of(PAGE_BYTES);
            medium
                .reserve_raw(id, pages.start, pages.end - pages.start)
                .and_then(|()| medium.write_raw(id, at, &buffer[..got]))
                .map_err(Failure::of(file.display()))?;
        }
        len += got as u64;
    }
}

/// Refuses a host file that no object can hold, before any of it is read.
///
/// # Errors
/// It is too long, or the host can't say.
pub fn check_length(from: &File, file: &Path) -> Result<(), Failure> {
    let about = from.metadata().map_err(|error| Failure::io(file, &error))?;
    if about.len() > FILE_BYTES_MAX { Err(too_long(file)) } else { Ok(()) }
}

fn too_long(file: &Path) -> Failure {
    let what = format!("{}: longer than the {FILE_BYTES_MAX} bytes that an object holds", file.display());
    Failure::new(Status::Room, what)
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
