//! `cat`, `put`, `get`: what objects hold.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use twizzler_names::{Entry, NameError};

use crate::answer::Answer;
use crate::files;
use crate::medium::Medium;
use crate::object::header;
use crate::open::Opened;
use crate::out::Out;
use crate::paths::{Named, clean, join, last_part};
use crate::progress;
use crate::status::{Failure, Status};

/// Bytes of content that `cat --json` gives at most: they are held in memory, and more of them as text.
const JSON_BYTES_MAX: u64 = 64 << 20;

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

/// `cat`. Gives no text: the bytes go to `to`, or into the answer, where that is to be JSON.
///
/// # Errors
/// No such object; a typed one; binary data to a terminal.
pub fn cat<M: Medium>(store: &Opened<M>, arguments: &CatArguments, as_json: bool) -> Result<Answer, Failure> {
    let mut objects = Vec::new();
    for name in &arguments.names {
        objects.push((name, files::find(store, name, arguments.force.into())?));
    }
    let all: u64 = objects.iter().map(|(_, (_, len))| len).sum();
    if as_json && all > JSON_BYTES_MAX {
        let what = format!("{all} bytes are too many for one answer, which has {JSON_BYTES_MAX} at most");
        return Err(Failure::new(Status::Room, what).advise("`twz get` writes them to files"));
    }
    let out = io::stdout();
    let guarded = out.is_terminal() && !arguments.force;
    let mut out = out.lock();
    let mut contents = Vec::new();
    for (name, (id, len)) in objects {
        let mut kept = Vec::new();
        let mut is_closed = false;
        let read = files::read(store, id, len, |chunk| {
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
            out.write_all(chunk).map_err(|error| {
                is_closed = has_seen_enough(&error);
                Failure::io(Path::new("standard output"), &error)
            })
        });
        if is_closed {
            return Ok(Answer { json: json!({}), text: String::new(), status: Status::Done });
        }
        read?;
        contents.push(match String::from_utf8(kept) {
            Ok(text) => json!({ "name": name, "len_bytes": len, "text": text }),
            Err(error) => {
                let hex: String = error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "name": name, "len_bytes": len, "hex": hex })
            }
        });
    }
    match out.flush() {
        Err(error) if !has_seen_enough(&error) => {
            return Err(Failure::io(Path::new("standard output"), &error));
        }
        _ => {}
    }
    Ok(Answer { json: json!({ "files": contents }), text: String::new(), status: Status::Done })
}

/// Whether whoever read our output has seen enough: it is closed.
fn has_seen_enough(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
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
    let name = match &arguments.name {
        Some(name) => clean(name).to_owned(),
        None if is_stdin => {
            return Err(Failure::new(Status::Usage, "give what comes from standard input a name"));
        }
        None => own_name(file)?,
    };
    let name = match store.names(&store.space.enter())?.lookup(&name) {
        Ok(Entry::Directory) if arguments.name.is_some() && !is_stdin && !file.is_dir() => {
            join(&name, &own_name(file)?)
        }
        _ => name,
    };
    let mut files = Vec::new();
    if file.is_dir() {
        collect(file, &name, &mut files)?;
    } else {
        files.push((file.clone(), name));
    }
    {
        // Before anything is put.
        let guard = store.space.enter();
        let names = store.names(&guard)?;
        for (_, name) in &files {
            if let Err(error @ (NameError::BadName | NameError::TooLong)) = names.lookup(name) {
                return Err(Failure::of(name)(error));
            }
        }
    }
    let bytes = files.iter().map(|(file, _)| file.metadata().map_or(0, |about| about.len())).sum();
    let bar = progress::of_bytes(bytes, "Putting files");
    let mut moved = Vec::new();
    for (file, name) in files {
        let (id, len_bytes) = if is_stdin {
            files::put(store, &name, &mut io::stdin().lock(), &file, arguments.force.into())?
        } else {
            let from = File::open(&file).map_err(|error| Failure::io(&file, &error))?;
            files::check_length(&from, &file)?;
            files::put(store, &name, &mut bar.wrap_read(from), &file, arguments.force.into())?
        };
        store.space.unmap(id);
        moved.push(MovedFile { name, file, len_bytes });
    }
    bar.finish_and_clear();
    Ok(Answer::of(&Moved { files: moved }))
}

/// A host file's own name, however its path is written: the shell's completion ends folders with a slash.
fn own_name(file: &Path) -> Result<String, Failure> {
    let resolved = match file.file_name() {
        Some(_) => file.to_owned(),
        None => file.canonicalize().map_err(|error| Failure::io(file, &error))?,
    };
    let Some(name) = resolved.file_name() else {
        return Err(Failure::new(Status::Usage, format!("{}: give it a name", file.display())));
    };
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::new(Status::Usage, format!("{}: the name is not UTF-8", file.display()))
            .advise("give it a name in the store")
    })
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
        let about = path.metadata().map_err(|error| Failure::io(&path, &error))?;
        let refused = |what: &str| {
            Failure::new(Status::Conflict, format!("{}: {what}", path.display()))
                .advise("nothing was put; take it out of the folder, or put the others one by one")
        };
        match about.is_dir() {
            true if path.is_symlink() => return Err(refused("a link to a folder")),
            true => collect(&path, &name, files)?,
            false if about.is_file() => files.push((path, name)),
            false => return Err(refused("neither a file nor a folder")),
        }
    }
    Ok(())
}

/// `get`.
///
/// # Errors
/// No such object, or the host file can't be written: nothing is left of it then.
pub fn get<M: Medium>(store: &Opened<M>, arguments: &GetArguments) -> Result<Answer, Failure> {
    let name = clean(&arguments.name);
    let to = arguments.file.clone().unwrap_or_else(|| match last_part(name) {
        // Not standard output: nobody asked for that.
        "-" => PathBuf::from("./-"),
        own => PathBuf::from(own),
    });
    let mut moved = Vec::new();
    if store.entry(&arguments.name)? == Entry::Directory {
        let all = store.walk(name)?;
        let len_bytes = |named: &Named| match named.entry {
            Entry::Object(id) => header(store.medium(), id).map_or(0, |header| header.len_bytes),
            Entry::Directory => 0,
        };
        std::fs::create_dir_all(&to).map_err(|error| Failure::io(&to, &error))?;
        let bar = progress::of_bytes(all.iter().map(len_bytes).sum(), "Getting files");
        for named in all {
            let below = named.path.strip_prefix(name).unwrap_or(&named.path).trim_start_matches('/');
            let file = to.join(below);
            if named.entry == Entry::Directory {
                std::fs::create_dir_all(&file).map_err(|error| Failure::io(&file, &error))?;
            } else {
                moved.push(get_one(store, &named.path, file, arguments.force)?);
                bar.inc(len_bytes(&named));
            }
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
    let (id, len_bytes) = files::find(store, name, force.into())?;
    let failed = |error: io::Error| Failure::io(&file, &error);
    if file.as_os_str() == "-" {
        let mut out = io::stdout().lock();
        let mut is_closed = false;
        let read = files::read(store, id, len_bytes, |chunk| {
            out.write_all(chunk).map_err(|error| {
                is_closed = has_seen_enough(&error);
                failed(error)
            })
        });
        if !is_closed {
            read?;
        }
        return Ok(MovedFile { name: name.to_owned(), file, len_bytes });
    }
    let mut out = Out::new(&file, force)?;
    files::get(store, (id, len_bytes), out.file(), &file)?;
    out.finish()?;
    Ok(MovedFile { name: name.to_owned(), file, len_bytes })
}
