//! Whole commands under the crash simulator: programs over names, transactions, heaps, collections, `kv` and
//! `index`, in programs of one command, as the shell starts them, or of several.
//!
//! What must be there after a power cut is what the same commands show when nothing is cut: they run once beforehand,
//! and after each all that a user can tell is written down. It must come back as it was before the command that
//! was cut off, or as it was after it; with every object accounted for and every heap as full as it was.

use std::fmt::Write as _;

use twizzler_abi::call::USUAL_RIGHTS;
use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};
use twizzler_crashsim::{Log, Rng, Scenario, SimMemory};
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::types::TYPE_OBJECT_FINGERPRINT;
use twizzler_object::{Access, LANES_MAX, Space};

use crate::lists;
use crate::objects::{SimObjects, memory_bytes};

/// Objects that fit the simulated memory.
const OBJECTS: u64 = 32;

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `kv`.
    Kv(Vec<String>),
    /// `index`.
    Index(Vec<String>),
    /// Makes a file.
    File(String, String),
    /// Makes a directory.
    Directory(String),
    /// Deletes a file or store.
    Delete(String),
    /// Gives another name.
    Rename(String, String),
    /// Works on linked lists: see [`crate::lists`].
    List(lists::Change),
}

/// `kv` and words.
#[must_use]
pub fn kv(line: &str) -> Command {
    Command::Kv(words(line))
}

/// `index` and words.
#[must_use]
pub fn index(line: &str) -> Command {
    Command::Index(words(line))
}

/// A file.
#[must_use]
pub fn file(name: &str, content: &str) -> Command {
    Command::File(name.into(), content.into())
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(String::from).collect()
}

/// All that a user can tell, as text.
pub type Seen = String;

/// Commands that one program runs, one after the other.
pub type Program = Vec<Command>;

/// Programs, some before that are not cut off.
#[derive(Clone, Debug)]
pub struct Session {
    /// Not cut off.
    pub before: Program,
    /// Cut off at every point.
    pub programs: Vec<Program>,
}

impl Session {
    /// Each command in a program of its own.
    #[must_use]
    pub fn new(before: Vec<Command>, commands: Vec<Command>) -> Self {
        Self { before, programs: commands.into_iter().map(|command| vec![command]).collect() }
    }

    /// Random commands over a few names, keys and words, in programs of up to three.
    #[must_use]
    pub fn random(rng: &mut Rng, len: usize) -> Self {
        let stores = ["put s0 key0 v", "put s1 key0 v"].map(kv);
        let before = stores.into_iter().chain((0..rng.below(12)).map(|_| random(rng))).collect();
        let program = |rng: &mut Rng| (0..1 + rng.below(3)).map(|_| random(rng)).collect();
        Self { before, programs: (0..len).map(|_| program(rng)).collect() }
    }
}

fn random(rng: &mut Rng) -> Command {
    let store = rng.below(2);
    let key = rng.below(40);
    match rng.below(16) {
        0..4 => kv(&format!("put s{store} key{key} {}", "v".repeat(1 + rng.index(60)))),
        4..6 => kv(&format!("del s{store} key{key}")),
        6 => {
            let lines =
                (0..1 + rng.below(40)).map(|_| format!("key{}\tval{}\n", rng.below(60), rng.below(99)));
            Command::File("lines".into(), lines.collect())
        }
        7 => kv(&format!("load s{store} lines")),
        8 | 9 => Command::File(format!("t{}", rng.below(3)), random_text(rng)),
        10..12 => index(&format!("add t{} t{}", rng.below(3), rng.below(3))),
        12 => index(&format!("rm t{}", rng.below(3))),
        13 => Command::Delete(["lines", "t0", "s1", "d", "d/s0"][rng.index(5)].into()),
        14 if rng.one_in(2) => Command::Directory("d".into()),
        14 => Command::Rename("s0".into(), "d/s0".into()),
        _ => Command::List(lists::Change::random(rng)),
    }
}

fn random_text(rng: &mut Rng) -> String {
    let word = |rng: &mut Rng| ["cat", "dog", "Été", "the", "end", "x1"][rng.index(6)];
    (0..5 + rng.below(40)).map(|n| format!("{}{}", word(rng), if n % 7 == 6 { "\n" } else { " " })).collect()
}

/// Boots, and runs a program: calls before and after each command.
fn run(
    memory: &SimMemory,
    program: &[Command],
    mut around: impl FnMut(&mut dyn FnMut()),
) -> Result<(), String> {
    let space = Space::attach(SimObjects::boot(memory)).map_err(|error| format!("attach: {error}"))?;
    for command in program {
        around(&mut || {
            run_in(&space, command);
        });
    }
    space.backend().check_announced();
    Ok(())
}

fn run_in(space: &Space<SimObjects<'_>>, command: &Command) -> Seen {
    match command {
        Command::Kv(args) => output(args, |args, out, err| {
            twizzler_kv::run(space, args, &mut twizzler_kv::Streams { out, err })
        }),
        Command::Index(args) => output(args, |args, out, err| {
            twizzler_index::run(space, args, &mut twizzler_index::Streams { out, err })
        }),
        Command::List(change) => format!("{:?}\n", change.apply(space)),
        other => format!("{:?}\n", with_names(space, other)),
    }
}

fn output(
    args: &[String],
    run: impl Fn(&[&str], &mut dyn FnMut(&[u8]), &mut dyn FnMut(&[u8])) -> u8,
) -> Seen {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status =
        run(&args, &mut |bytes| out.extend_from_slice(bytes), &mut |bytes| err.extend_from_slice(bytes));
    format!("{}{}status {status}\n", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err))
}

fn with_names(space: &Space<SimObjects<'_>>, command: &Command) -> Result<(), NameError> {
    let guard = space.enter();
    let names = Names::open(&guard)?;
    guard.transact(|tx| match command {
        Command::File(name, content) => {
            let file = match names.object(name) {
                Ok(id) => guard.open_any(id, Access::Write)?,
                Err(_) => names.create_any(tx, name)?,
            };
            tx.write_at(file, 0, content.as_bytes())?;
            tx.set_len_bytes(file, content.len() as u64)?;
            Ok(())
        }
        Command::Directory(name) => names.make_directory(tx, name),
        Command::Delete(name) => match names.lookup(name)? {
            Entry::Directory => names.remove_directory(tx, name),
            Entry::Object(_) => names.delete(tx, name).map(drop),
        },
        Command::Rename(from, to) => names.rename(tx, from, to),
        Command::Kv(_) | Command::Index(_) | Command::List(_) => Ok(()),
    })
}

/// Everything that can be told of what is there.
fn look(memory: &SimMemory) -> Result<Seen, String> {
    let space = Space::attach(SimObjects::boot(memory)).map_err(|error| format!("attach: {error}"))?;
    if space.recovery().damaged != 0 {
        return Err(format!("{:?}", space.recovery()));
    }
    let guard = space.enter();
    let names = Names::open(&guard).map_err(|error| format!("names: {error}"))?;
    let mut seen = Seen::new();
    list(&space, &names, "/", &mut seen)?;
    let words = |lines: &[&str]| lines.iter().map(|line| index(line)).collect::<Vec<_>>();
    for query in words(&["search --lines the", "search cat dog", "top 99", "stat"]) {
        seen += &run_in(&space, &query);
    }
    seen += &lists::show(&space)?;
    let area = names.area();
    let usage = space.heap_usage(area).map_err(|error| format!("heap of names: {error}"))?;
    writeln!(seen, "names {usage:?}").expect("a string takes all");
    writeln!(seen, "{} objects", objects(&space)).expect("a string takes all");
    descriptions(&space)?;
    Ok(seen)
}

/// Each description of a type is whole, or not there.
fn descriptions(space: &Space<SimObjects<'_>>) -> Result<(), String> {
    let guard = space.enter();
    for id in space.backend().ids() {
        let Ok(stat) = space.stat(id) else { continue };
        if ![0, TYPE_OBJECT_FINGERPRINT].contains(&stat.fingerprint) {
            guard.describe(stat.fingerprint).map_err(|error| format!("type of {id}: {error}"))?;
        }
    }
    Ok(())
}

/// How many objects there are, but for lanes and descriptions of types: programs make those when they need one, and leave them.
fn objects(space: &Space<SimObjects<'_>>) -> usize {
    let lanes: Vec<_> = (0..LANES_MAX).map(lane).collect();
    space.backend().ids().iter().filter(|id| !lanes.contains(id) && !describes_type(space, **id)).count()
}

/// True for an object that describes a type.
pub fn describes_type(space: &Space<SimObjects<'_>>, id: ObjId) -> bool {
    space.stat(id).is_ok_and(|stat| stat.fingerprint == TYPE_OBJECT_FINGERPRINT)
}

/// ID of a lane: everyone finds it by its nonce.
fn lane(number: usize) -> ObjId {
    let mut nonce = *b"twizzler lane 00";
    nonce[14] += (number / 10) as u8;
    nonce[15] += (number % 10) as u8;
    let flags = ObjectFlags::PERSISTENT;
    ObjId::derive(&IdInputs { nonce, owner: ObjId::NONE, flags, default_rights: USUAL_RIGHTS })
}

fn list(
    space: &Space<SimObjects<'_>>,
    names: &Names<'_, SimObjects<'_>>,
    path: &str,
    seen: &mut Seen,
) -> Result<(), String> {
    let entries = names.list(path).map_err(|error| format!("{path}: {error}"))?;
    for (name, entry) in entries {
        let path = format!("{}/{name}", path.trim_end_matches('/'));
        match entry {
            Entry::Directory => {
                writeln!(seen, "{path}/").expect("a string takes all");
                list(space, names, &path, seen)?;
            }
            Entry::Object(id) => {
                object(space, &path, id, seen).map_err(|error| format!("{path}: {error}"))?
            }
        }
    }
    Ok(())
}

fn object(space: &Space<SimObjects<'_>>, path: &str, id: ObjId, seen: &mut Seen) -> Result<(), Error> {
    let guard = space.enter();
    let area = guard.open_any(id, Access::Read)?;
    let (kind, len) = (space.type_name(area), space.len_bytes(area));
    let usage = space.heap_usage(area)?;
    writeln!(seen, "{path} {kind:?} {len} {usage:?}").expect("a string takes all");
    if space.stat(id)?.fingerprint == 0 {
        let content = guard.to_vec(guard.content(area));
        writeln!(seen, "{}", String::from_utf8_lossy(&content)).expect("a string takes all");
    } else {
        *seen += &run_in(space, &Command::Kv(vec!["scan".into(), path.into()]));
    }
    Ok(())
}

impl Scenario for Session {
    type State = Seen;

    fn len_bytes(&self) -> u64 {
        memory_bytes(OBJECTS)
    }

    fn setup(&self, memory: &SimMemory) {
        run(memory, &self.before, |work| work()).expect("nothing is cut off");
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Seen>) {
        let rehearsal = SimMemory::of(memory.image());
        let mut seen = Vec::new();
        for program in &self.programs {
            let rehearsed = run(&rehearsal, program, |work| {
                work();
                seen.push(look(&SimMemory::of(rehearsal.image())).expect("nothing is cut off"));
            });
            rehearsed.expect("nothing is cut off");
        }
        let mut seen = seen.into_iter();
        for program in &self.programs {
            let done = run(memory, program, |work| {
                log.operation(seen.next().expect("one for each command"), work);
            });
            done.expect("nothing is cut off");
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<Seen, String> {
        look(memory)
    }
}
