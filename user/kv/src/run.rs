//! The command `kv`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_names::{NameError, Names};
use twizzler_object::collections::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use twizzler_object::{Access, Backend, OpenError, Reader, Space, Tx};

use crate::store::{LoadError, Store, StoreRoot};

/// How to use the command.
pub const USAGE: &str = "\
usage: kv put STORE KEY VALUE       give a key a value
       kv get STORE KEY             print a key's value
       kv del STORE KEY             take a key out
       kv scan STORE [FROM [TO]]    print KEY<TAB>VALUE in byte order, from FROM up to, not including, TO
       kv load STORE NAME           put the lines KEY<TAB>VALUE of a file, all or none
       kv stat STORE                the store in numbers
put and load make the store if there is none.
";

/// Where a command's output and messages go.
pub struct Streams<'a> {
    /// Output.
    pub out: &'a mut dyn FnMut(&[u8]),
    /// Messages.
    pub err: &'a mut dyn FnMut(&[u8]),
}

/// What a command that failed says, and its status.
struct Complaint {
    text: String,
    status: u8,
}

impl Complaint {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: 1 }
    }

    fn of(name: &str, what: impl core::fmt::Display) -> Self {
        Self::new(format!("kv: {name}: {what}\n"))
    }
}

impl From<Error> for Complaint {
    fn from(error: Error) -> Self {
        Self::new(format!("kv: {error}\n"))
    }
}

/// Runs the command with `args`, without its own name. Gives the exit status: 0 done, 1 not done or no such key, 2 wrong usage.
pub fn run<B: Backend>(space: &Space<B>, args: &[&str], streams: &mut Streams<'_>) -> u8 {
    match command(space, args, streams) {
        Ok(()) => 0,
        Err(complaint) => {
            (streams.err)(complaint.text.as_bytes());
            complaint.status
        }
    }
}

fn command<B: Backend>(space: &Space<B>, args: &[&str], streams: &mut Streams<'_>) -> Result<(), Complaint> {
    match args {
        ["put", name, key, value] => {
            let explain = |error| Complaint::of(name, explain(error));
            change(space, name, |store, tx| {
                store.put_in(tx, key.as_bytes(), value.as_bytes()).map_err(explain)
            })?;
            Ok(())
        }
        ["get", name, key] => {
            let value = open(space, name)?.get(key.as_bytes()).map_err(|error| Complaint::of(name, error))?;
            let value = value.ok_or_else(|| Complaint::of(key, "no such key"))?;
            (streams.out)(&value);
            (streams.out)(b"\n");
            Ok(())
        }
        ["del", name, key] => {
            let deleted =
                open(space, name)?.delete(key.as_bytes()).map_err(|error| Complaint::of(name, error))?;
            if deleted { Ok(()) } else { Err(Complaint::of(key, "no such key")) }
        }
        ["scan", name] => scan(space, name, None, None, streams),
        ["scan", name, from] => scan(space, name, Some(from), None, streams),
        ["scan", name, from, to] => scan(space, name, Some(from), Some(to), streams),
        ["load", name, file] => load(space, name, file, streams),
        ["stat", name] => {
            let stat = open(space, name)?.stat().map_err(|error| Complaint::of(name, error))?;
            let lines = [
                ("entries", stat.entries),
                ("bytes", stat.bytes),
                ("levels", stat.levels.into()),
                ("object_bytes", stat.object_bytes),
            ];
            for (what, number) in lines {
                (streams.out)(format!("{what}\t{number}\n").as_bytes());
            }
            Ok(())
        }
        ["help" | "--help" | "-h"] => {
            (streams.out)(USAGE.as_bytes());
            Ok(())
        }
        _ => Err(Complaint { text: USAGE.to_string(), status: 2 }),
    }
}

fn open<'s, B: Backend>(space: &'s Space<B>, name: &str) -> Result<Store<'s, B>, Complaint> {
    let id = Names::open(space)
        .and_then(|names| names.object(name))
        .map_err(|error| Complaint::of(name, error))?;
    match space.open::<StoreRoot>(id, Access::Write) {
        Ok(root) => Ok(Store::new(space, root)),
        Err(error @ OpenError::WrongType { .. }) => Err(Complaint::of(name, error)),
        Err(error) => Err(Complaint::of(name, Error::from(error))),
    }
}

/// Runs `change` on a store in one transaction, which also makes the store if there is none.
fn change<'s, B: Backend, R>(
    space: &'s Space<B>,
    name: &str,
    change: impl FnOnce(&Store<'s, B>, &mut Tx<'s, B>) -> Result<R, Complaint>,
) -> Result<R, Complaint> {
    let failed = |error: NameError| Complaint::of(name, error);
    let names = Names::open(space).map_err(failed)?;
    space.transact(|tx| {
        let store = if names.object(name) == Err(NameError::NoSuchName) {
            Store::new(space, names.create::<StoreRoot>(tx, name).map_err(failed)?)
        } else {
            open(space, name)?
        };
        change(&store, tx)
    })
}

fn scan<B: Backend>(
    space: &Space<B>,
    name: &str,
    from: Option<&str>,
    to: Option<&str>,
    streams: &mut Streams<'_>,
) -> Result<(), Complaint> {
    let store = open(space, name)?;
    let scanned = store.scan(from.map(str::as_bytes), to.map(str::as_bytes), |key, value| {
        for part in [key, b"\t", value, b"\n"] {
            (streams.out)(part);
        }
    });
    scanned.map_err(|error| Complaint::of(name, error))
}

fn load<B: Backend>(
    space: &Space<B>,
    name: &str,
    file: &str,
    streams: &mut Streams<'_>,
) -> Result<(), Complaint> {
    let content = read_file(space, file)?;
    let explain_load = |error| match error {
        LoadError::Line(bad) => Complaint::of(file, format!("line {}: no tab; nothing was loaded", bad.line)),
        LoadError::TooLong(line) => {
            Complaint::of(file, format!("line {line}: {}; nothing was loaded", explain(Error::TooLong)))
        }
        LoadError::System(error) => Complaint::of(name, explain(error)),
    };
    let loaded = change(space, name, |store, tx| store.load_in(tx, &content).map_err(explain_load))?;
    (streams.err)(format!("kv: {loaded} lines loaded\n").as_bytes());
    Ok(())
}

fn explain(error: Error) -> String {
    match error {
        Error::TooLong => format!("a key has at most {KEY_BYTES_MAX} bytes, a value {VALUE_BYTES_MAX}"),
        Error::OutOfRange => "the store is full: all of it lies in one object".to_string(),
        error => error.to_string(),
    }
}

/// The content of a named file.
fn read_file<B: Backend>(space: &Space<B>, name: &str) -> Result<Vec<u8>, Complaint> {
    let failed = |error: Error| Complaint::of(name, error);
    let id = Names::open(space)
        .and_then(|names| names.object(name))
        .map_err(|error| Complaint::of(name, error))?;
    if space.stat(id).map_err(failed)?.fingerprint != 0 {
        return Err(Complaint::of(name, "not a file but an object of a type"));
    }
    let bytes = space.content(space.open_any(id, Access::Read).map_err(failed)?);
    let len = usize::try_from(bytes.len()).map_err(|_| failed(Error::OutOfMemory))?;
    let mut content = Vec::new();
    content.try_reserve_exact(len).map_err(|_| failed(Error::OutOfMemory))?;
    content.resize(len, 0);
    space.read(bytes, 0, &mut content).map_err(failed)?;
    Ok(content)
}
