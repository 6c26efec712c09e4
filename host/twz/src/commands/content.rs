//! `cat`, `put`, `get`: what objects hold.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES};
use twizzler_abi::call::USUAL_RIGHTS;
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header, Metadata};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};
use twizzler_names::{Entry, NameError};
use zerocopy::{FromZeros, IntoBytes};

use super::change::make_parents;
use crate::answer::Answer;
use crate::medium::Medium;
use crate::object::{Kind, facts};
use crate::open::Opened;
use crate::paths::{clean, join, last_part};
use crate::progress;
use crate::status::{Failure, Status};

/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = SLOT_BYTES - BASE_OFFSET;
/// Bytes moved at once.
const CHUNK_BYTES: usize = 2 << 20;

/// Arguments of `cat`.
#[derive(Args, Clone, Debug)]
pub struct CatArguments {
    /// The store
    pub store: PathBuf,
    /// Names or IDs of objects
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Also typed objects, and binary data to a terminal
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `put`.
#[derive(Args, Clone, Debug)]
pub struct PutArguments {
    /// The store
    pub store: PathBuf,
    /// Host file, or a directory with all its files; - is standard input
    pub file: PathBuf,
    /// Its name in the store [default: the file's own]
    pub name: Option<String>,
    /// Also in place of an object that is not a file
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `get`.
#[derive(Args, Clone, Debug)]
pub struct GetArguments {
    /// The store
    pub store: PathBuf,
    /// Name or ID of an object, or a directory with all its objects
    pub name: String,
    /// Host file to write, or a directory to make; - is standard output [default: the name's last part]
    pub file: Option<PathBuf>,
    /// Also typed objects; and replace host files
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Moved {
    files: Vec<MovedFile>,
}

#[derive(Clone, Debug, Serialize)]
struct MovedFile {
    name: String,
    file: PathBuf,
    len_bytes: u64,
}

impl fmt::Display for Moved {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// The object of a name, which must hold a file's bytes.
fn file_object<M: Medium>(store: &Opened<M>, name: &str, force: bool) -> Result<(ObjId, u64), Failure> {
    let id = store.object(name)?;
    let facts = facts(store.medium(), id);
    match facts.kind {
        Kind::Missing => Err(Failure::of(name)(Error::NoSuchObject)),
        Kind::Damaged => Err(Failure::of(name)(Error::Damaged)),
        Kind::Typed if !force => Err(Failure::new(
            Status::Conflict,
            format!("{name} holds typed data ({}), not a file", facts.type_name.unwrap_or_default()),
        )
        .advise("`twz show` shows it, `twz export` takes it elsewhere; --force gives its bytes")),
        Kind::File | Kind::Typed => Ok((id, facts.len_bytes.min(FILE_BYTES_MAX))),
    }
}

/// Reads a file's bytes in pieces.
fn each_chunk<M: Medium>(
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

/// `cat`. Gives no text: the bytes go to `to`, or into the answer, where that is to be JSON.
///
/// # Errors
/// No such object; a typed one; binary data to a terminal.
pub fn cat<M: Medium>(store: &Opened<M>, arguments: &CatArguments, as_json: bool) -> Result<Answer, Failure> {
    let mut objects = Vec::new();
    for name in &arguments.names {
        objects.push((name, file_object(store, name, arguments.force)?));
    }
    let out = io::stdout();
    let guarded = out.is_terminal() && !arguments.force;
    let mut out = out.lock();
    let mut contents = Vec::new();
    for (name, (id, len)) in objects {
        let mut kept = Vec::new();
        each_chunk(store, id, len, |chunk| {
            if as_json {
                kept.extend_from_slice(chunk);
                return Ok(());
            }
            if guarded && is_binary(chunk) {
                return Err(Failure::new(
                    Status::Conflict,
                    format!("{name} is binary, and would garble the terminal"),
                )
                .advise("send it to a file with `twz get`, look at it with `twz show`, or add --force"));
            }
            out.write_all(chunk).map_err(|error| Failure::io(Path::new("standard output"), &error))
        })?;
        contents.push(match String::from_utf8(kept) {
            Ok(text) => json!({ "name": name, "len_bytes": len, "text": text }),
            Err(error) => {
                let hex: String = error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "name": name, "len_bytes": len, "hex": hex })
            }
        });
    }
    out.flush().map_err(|error| Failure::io(Path::new("standard output"), &error))?;
    Ok(Answer { json: json!({ "files": contents }), text: String::new(), status: Status::Done })
}

/// Bytes that a terminal takes for commands.
fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().any(|&byte| byte < 0x20 && !matches!(byte, b'\n' | b'\r' | b'\t') || byte == 0x7f)
}

/// `put`.
///
/// # Errors
/// The file can't be read, is too long, or does not fit; the name is taken by something that is no file.
pub fn put<M: Medium>(store: &Opened<M>, arguments: &PutArguments) -> Result<Answer, Failure> {
    let file = &arguments.file;
    let is_stdin = file.as_os_str() == "-";
    let own = || last_part(&file.to_string_lossy()).to_owned();
    let name = match &arguments.name {
        Some(name) => clean(name).to_owned(),
        None if is_stdin => {
            return Err(Failure::new(Status::Usage, "give what comes from standard input a name"));
        }
        None => own(),
    };
    let name = match store.names(&store.space.enter())?.lookup(&name) {
        Ok(Entry::Directory) if arguments.name.is_some() && !is_stdin && !file.is_dir() => {
            join(&name, &own())
        }
        _ => name,
    };
    let mut files = Vec::new();
    if file.is_dir() {
        collect(file, &name, &mut files)?;
    } else {
        files.push((file.clone(), name));
    }
    let bar = progress::of_steps(files.len() as u64, "Putting files");
    let mut moved = Vec::new();
    for (file, name) in files {
        let (id, len_bytes) = if is_stdin {
            put_one(store, &name, &mut io::stdin().lock(), &file, arguments.force)?
        } else {
            let mut from = File::open(&file).map_err(|error| Failure::io(&file, &error))?;
            put_one(store, &name, &mut from, &file, arguments.force)?
        };
        store.space.unmap(id);
        moved.push(MovedFile { name, file, len_bytes });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Answer::of(&Moved { files: moved }))
}

/// All files below a host directory, with the names that they get.
fn collect(directory: &Path, name: &str, files: &mut Vec<(PathBuf, String)>) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io(directory, &error);
    let mut entries = directory.read_dir().map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let own = entry.file_name().into_string().map_err(|own| {
            Failure::new(Status::Usage, format!("{}: the name is not UTF-8", own.display()))
        })?;
        let name = join(name, &own);
        if path.is_dir() {
            collect(&path, &name, files)?;
        } else {
            files.push((path, name));
        }
    }
    Ok(())
}

fn put_one<M: Medium>(
    store: &Opened<M>,
    name: &str,
    from: &mut impl Read,
    file: &Path,
    force: bool,
) -> Result<(ObjId, u64), Failure> {
    let guard = store.space.enter();
    let names = store.names(&guard)?;
    let old = match names.lookup(name) {
        Ok(Entry::Object(id)) => {
            if facts(store.medium(), id).kind == Kind::Typed && !force {
                return Err(Failure::new(Status::Conflict, format!("{name} holds typed data, not a file"))
                    .advise("take another name, or replace it with --force"));
            }
            Some(id)
        }
        Ok(Entry::Directory) => return Err(Failure::of(name)(NameError::IsADirectory)),
        Err(_) => None,
    };
    let only_name = match old {
        Some(id) => store.names_by_id()?.get(&id).is_none_or(|names| names.len() == 1),
        None => false,
    };
    let (id, len) = make_file(store, name, from, file)?;
    let named = guard.transact(|tx| {
        make_parents(&names, tx, name)?;
        match old {
            Some(_) if only_name => drop(names.delete(tx, name)?),
            Some(_) => drop(names.unbind(tx, name)?),
            None => {}
        }
        names.bind(tx, name, id)
    });
    if named.is_err() {
        // Where this fails too, `gc` finds it.
        let _ = store.medium().delete(id);
    }
    named.map(|()| (id, len)).map_err(Failure::of(name))
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
    medium.make(&metadata, &[]).map_err(Failure::of(name))?;
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
            let what =
                format!("{}: longer than the {FILE_BYTES_MAX} bytes that an object holds", file.display());
            return Err(Failure::new(Status::Room, what));
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

/// `get`.
///
/// # Errors
/// No such object, or the host file can't be written: nothing is left of it then.
pub fn get<M: Medium>(store: &Opened<M>, arguments: &GetArguments) -> Result<Answer, Failure> {
    let name = clean(&arguments.name);
    let to = arguments.file.clone().unwrap_or_else(|| PathBuf::from(last_part(name)));
    let mut moved = Vec::new();
    if store.entry(&arguments.name)? == Entry::Directory {
        let all = store.walk(name)?;
        let bar = progress::of_steps(all.len() as u64, "Getting files");
        for named in all {
            let below = named.path.strip_prefix(name).unwrap_or(&named.path).trim_start_matches('/');
            let file = to.join(below);
            if named.entry == Entry::Directory {
                std::fs::create_dir_all(&file).map_err(|error| Failure::io(&file, &error))?;
            } else {
                moved.push(get_one(store, &named.path, file, arguments.force)?);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
    } else {
        let file = if to.is_dir() { to.join(last_part(name)) } else { to };
        moved.push(get_one(store, &arguments.name, file, arguments.force)?);
    }
    Ok(Answer::of(&Moved { files: moved }))
}

fn get_one<M: Medium>(
    store: &Opened<M>,
    name: &str,
    file: PathBuf,
    force: bool,
) -> Result<MovedFile, Failure> {
    let (id, len_bytes) = file_object(store, name, force)?;
    let failed = |error: io::Error| Failure::io(&file, &error);
    if file.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        each_chunk(store, id, len_bytes, |chunk| out.write_all(chunk).map_err(failed))?;
        return Ok(MovedFile { name: name.to_owned(), file, len_bytes });
    }
    if !force && file.exists() {
        return Err(Failure::new(Status::Conflict, format!("{} exists already", file.display()))
            .advise("give another host file, or replace it with --force"));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|error| Failure::io(folder, &error))?;
    let mut made = tempfile::Builder::new()
        .prefix(".twz-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|error| Failure::io(folder, &error))?;
    let out = made.as_file_mut();
    out.set_len(len_bytes).map_err(failed)?;
    for extent in store.medium().extents(id).map_err(Failure::of(name))? {
        let end = extent.end.min(BASE_OFFSET + len_bytes);
        let mut at = extent.start.max(BASE_OFFSET);
        let mut chunk = vec![0; CHUNK_BYTES];
        while at < end {
            let part = &mut chunk[..((end - at) as usize).min(CHUNK_BYTES)];
            store.medium().read_raw(id, at, part).map_err(Failure::of(name))?;
            out.seek(SeekFrom::Start(at - BASE_OFFSET)).map_err(failed)?;
            out.write_all(part).map_err(failed)?;
            at += part.len() as u64;
        }
    }
    made.persist(&file).map_err(|error| failed(error.error))?;
    Ok(MovedFile { name: name.to_owned(), file, len_bytes })
}
