//! The command `kv`.

use alloc::format;
use alloc::string::{String, ToString};

use twizzler_abi::Error;
use twizzler_command::{Complaint, Streams, advised};
use twizzler_names::Names;
use twizzler_object::collections::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use twizzler_object::{Backend, Guard, Space, Tx};

use crate::store::{LoadError, Store, StoreRoot};

/// How to use the command.
pub const USAGE: &str = "\
usage: kv put STORE KEY VALUE       give a key a value
       kv get STORE KEY             print a key's value
       kv del STORE KEY             take a key out
       kv scan STORE [FROM [TO]]    print KEY<TAB>VALUE in byte order, from FROM up to, not including, TO
       kv load STORE NAME           put the lines KEY<TAB>VALUE of a file, all or none
       kv stat STORE                the store in numbers
put and load make the store if there is none; `rm STORE` deletes it.
";

/// What is said of a key that the store hasn't.
const NO_SUCH_KEY: &str = "no such key; `kv scan STORE` lists the keys";

/// Runs the command with `args`, without its own name. Gives the exit status: 0 done, 1 not done or no such key, 2 wrong usage.
pub fn run<B: Backend>(space: &Space<B>, args: &[&str], streams: &mut Streams<'_>) -> u8 {
    twizzler_command::run("kv", streams, |streams| command(&space.enter(), args, streams))
}

fn command<B: Backend>(
    guard: &Guard<'_, B>,
    args: &[&str],
    streams: &mut Streams<'_>,
) -> Result<(), Complaint> {
    match args {
        ["put", name, key, value] => {
            let explain = |error| Complaint::of(name, explain(error));
            change(guard, name, |store, tx| {
                store.put_in(tx, key.as_bytes(), value.as_bytes()).map_err(explain)
            })?;
            Ok(())
        }
        ["get", name, key] => {
            let value =
                open(guard, name)?.get(key.as_bytes()).map_err(|error| Complaint::error(name, error))?;
            let value = value.ok_or_else(|| Complaint::of(key, NO_SUCH_KEY))?;
            (streams.out)(&value);
            (streams.out)(b"\n");
            Ok(())
        }
        ["del", name, key] => {
            let deleted =
                open(guard, name)?.delete(key.as_bytes()).map_err(|error| Complaint::error(name, error))?;
            if deleted { Ok(()) } else { Err(Complaint::of(key, NO_SUCH_KEY)) }
        }
        ["scan", name] => scan(guard, name, None, None, streams),
        ["scan", name, from] => scan(guard, name, Some(from), None, streams),
        ["scan", name, from, to] => scan(guard, name, Some(from), Some(to), streams),
        ["load", name, file] => load(guard, name, file, streams),
        ["stat", name] => {
            let stat = open(guard, name)?.stat().map_err(|error| Complaint::error(name, error))?;
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
        _ => Err(Complaint::Usage(USAGE)),
    }
}

fn open<'s, B: Backend>(guard: &'s Guard<'s, B>, name: &str) -> Result<Store<'s, B>, Complaint> {
    let missing =
        || Complaint::of(name, "no such store; `kv put` and `kv load` make one, `ls` lists the names");
    let root = twizzler_command::open_named::<StoreRoot, B>(guard, name)?.ok_or_else(missing)?;
    Ok(Store::new(guard, root))
}

/// Runs `change` on a store in one transaction, which also makes the store if there is none.
fn change<'s, B: Backend, R>(
    guard: &'s Guard<'s, B>,
    name: &str,
    mut change: impl FnMut(&Store<'s, B>, &mut Tx<'s, B>) -> Result<R, Complaint>,
) -> Result<R, Complaint> {
    let names = Names::open(guard).map_err(|error| Complaint::error(name, error))?;
    guard.transact(|tx| {
        let root = twizzler_command::open_or_create_named::<StoreRoot, B>(tx, &names, name)?;
        change(&Store::new(guard, root), tx)
    })
}

fn scan<B: Backend>(
    guard: &Guard<'_, B>,
    name: &str,
    from: Option<&str>,
    to: Option<&str>,
    streams: &mut Streams<'_>,
) -> Result<(), Complaint> {
    let store = open(guard, name)?;
    let scanned = store.scan(from.map(str::as_bytes), to.map(str::as_bytes), |key, value| {
        for part in [key, b"\t", value, b"\n"] {
            (streams.out)(part);
        }
    });
    scanned.map_err(|error| Complaint::error(name, error))
}

fn load<B: Backend>(
    guard: &Guard<'_, B>,
    name: &str,
    file: &str,
    streams: &mut Streams<'_>,
) -> Result<(), Complaint> {
    let content = twizzler_command::read_file(guard, file)?;
    let explain_load = |error| match error {
        LoadError::Line(bad) => Complaint::of(
            file,
            format!("line {}: no tab between key and value; nothing was loaded", bad.line),
        ),
        LoadError::TooLong(line) => {
            Complaint::of(file, format!("line {line}: {}; nothing was loaded", explain(Error::TooLong)))
        }
        LoadError::System(error) => Complaint::of(name, explain(error)),
    };
    let loaded = change(guard, name, |store, tx| store.load_in(tx, &content).map_err(explain_load))?;
    (streams.err)(format!("kv: {loaded} lines loaded\n").as_bytes());
    Ok(())
}

fn explain(error: Error) -> String {
    match error {
        Error::TooLong => format!("a key has at most {KEY_BYTES_MAX} bytes, a value {VALUE_BYTES_MAX}"),
        Error::OutOfRange => {
            "the store is full, since it lies in one object; put the rest in another store".to_string()
        }
        error => advised(&error),
    }
}
