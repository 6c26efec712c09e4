//! Programs: where they are, how they are run, what is said about their end.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use twizzler_abi::Rights;
use twizzler_abi::address::band;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::system::ARCHIVE_ID;
use twizzler_abi::thread::{ACCESS_FETCH, ACCESS_WRITE, FaultInfo, FaultKind};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::process::{self, Program, SpawnError, Waited};
use twizzler_rt::thread::End;
use twizzler_rt::{eprintln, exit, slots};

use super::Shell;
use super::failure::{Failure, Outcome};
use super::output::Output;
use crate::archive::{self, File};

/// What the programs of the boot archive do.
pub(super) const ABOUT: &[(&str, &str)] = &[
    ("bench", "measures the system"),
    ("fault", "shows what happens to a program that does wrong"),
    ("fuzz", "tries system calls with hostile arguments"),
    ("index", "indexes texts and searches them"),
    ("kv", "keeps keys and values in order"),
    ("selftest", "tests the system from a program's side"),
    ("vector", "checks that vector registers survive thread switches"),
];

/// The files of the boot archive, if this program has been lent it.
fn archive_files(archive: &Mapping) -> impl Iterator<Item = File> {
    archive::files(archive.len_bytes(), |at, bytes| archive.read(BASE_OFFSET + at, bytes))
}

fn boot_archive() -> Option<Mapping> {
    let lent = !slots::entry(band::ARCHIVE).id.is_none();
    lent.then(|| Mapping::new(ARCHIVE_ID, Rights::READ).ok()).flatten()
}

/// A file of the boot archive.
pub(crate) fn archived_file(name: &str) -> Option<Vec<u8>> {
    let archive = boot_archive()?;
    let file = archive_files(&archive).find(|file| file.name == name)?;
    let mut bytes = vec![0; file.len_bytes as usize];
    archive.read(BASE_OFFSET + file.offset, &mut bytes);
    Some(bytes)
}

/// A program's file in the boot archive, if it has one of that name. Once in memory for all who ask.
#[inline(never)]
fn program_file(archive: &Mapping, name: &str) -> Option<File> {
    archive_files(archive).find(|file| file.name.strip_prefix("bin/") == Some(name))
}

/// A program of the boot archive, if it has one of that name.
pub(crate) fn archived_program(name: &str) -> Option<Result<Program, SpawnError>> {
    let archive = boot_archive()?;
    let file = program_file(&archive, name)?;
    Some(load(&archive, file.offset, file.len_bytes))
}

/// A program of the boot archive that was run before.
#[derive(Debug)]
pub(super) struct Known {
    name: String,
    /// Where in the archive it is.
    offset: u64,
    program: Program,
}

/// A program of the boot archive that was run before, perhaps under another name, or is loaded now.
fn loaded(shell: &mut Shell<'_>, name: &str) -> Option<Result<Program, SpawnError>> {
    if let Some(known) = shell.programs.iter().find(|known| known.name == name) {
        return Some(Ok(known.program.clone()));
    }
    let archive = boot_archive()?;
    let File { offset, len_bytes, .. } = program_file(&archive, name)?;
    let same = shell.programs.iter().find(|known| known.offset == offset).map(|known| known.program.clone());
    let program = match same.map_or_else(|| load(&archive, offset, len_bytes), Ok) {
        Ok(program) => program,
        Err(error) => return Some(Err(error)),
    };
    shell.programs.push(Known { name: name.to_string(), offset, program: program.clone() });
    Some(Ok(program))
}

/// Loads a program that lies in an object, from `offset` behind its base on.
fn load(object: &Mapping, offset: u64, len_bytes: u64) -> Result<Program, SpawnError> {
    Program::load(len_bytes, |at, bytes| object.read(BASE_OFFSET + offset + at, bytes))
}

/// Names of the programs that people may run from the boot archive.
pub(super) fn archived() -> Vec<String> {
    let Some(archive) = boot_archive() else { return Vec::new() };
    let programs =
        archive_files(&archive).filter_map(|file| file.name.strip_prefix("bin/").map(String::from));
    let mut names: Vec<String> =
        programs.filter(|name| !["init", "shell"].contains(&name.as_str())).collect();
    names.sort_unstable();
    names
}

/// A program of the boot archive, which doesn't change, or of a named object, which may.
fn find(shell: &mut Shell<'_>, name: &str) -> Result<Program, Failure> {
    if let Some(program) = loaded(shell, name) {
        return program.map_err(cannot_start(name));
    }
    let missing =
        || Failure::Message { text: "no such command; try `help`".to_string(), status: exit::NO_COMMAND };
    let id = shell.object(name).map_err(|_| missing())?;
    let object = Mapping::new(id, Rights::READ)?;
    load(&object, 0, object.len_bytes()).map_err(cannot_start(name))
}

fn cannot_start(name: &str) -> impl FnOnce(SpawnError) -> Failure {
    move |error| match error {
        SpawnError::Load(error) => Failure::Message {
            text: format!("{name}: {error}; only programs that were built for Twizzler can be run"),
            status: exit::NO_PROGRAM,
        },
        SpawnError::Call(error) => Failure::of(name)(error),
    }
}

/// Runs a program by its bare name; `words` starts with that.
pub(super) fn run(shell: &mut Shell<'_>, words: &[&str], output: &mut Output) -> Outcome {
    let name = words[0];
    let program = find(shell, name)?;
    start(shell, &program, words, output)
}

/// `run PROGRAM [ARGUMENT...]`.
pub(super) fn run_named(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if arguments.is_empty() {
        return Err(Failure::Usage);
    }
    let name = arguments[0];
    let program = find(shell, name).map_err(|failure| match failure {
        Failure::Message { status: exit::NO_COMMAND, .. } => Failure::Message {
            text: format!("there is no program `{name}`; `help` lists those of the system, `ls` the names"),
            status: exit::NO_COMMAND,
        },
        other => other,
    })?;
    start(shell, &program, arguments, output)
}

/// Starts a program, waits for it and says what there is to say about its end.
fn start(shell: &mut Shell<'_>, program: &Program, words: &[&str], output: &mut Output) -> Outcome {
    twizzler_rt::console::flush();
    let kept = match output {
        Output::Console => None,
        Output::Kept(_) => Some(process::Kept::new()?),
    };
    let variables: Vec<String> = kept.iter().map(process::Kept::variable).collect();
    let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
    let mut process = program.spawn(words, &variables).map_err(cannot_start(words[0]))?;
    let status = match process.wait() {
        Waited::Ended(End::Exited(status)) => status,
        Waited::Ended(End::Fault { info, rip }) => {
            eprintln!("{}: {}", words[0], fault_text(&info, rip));
            exit::FAULT
        }
        Waited::Interrupted => {
            process.kill();
            shell.interrupts_handled += 1;
            eprintln!("^C");
            exit::INTERRUPTED
        }
    };
    drop(process);
    if let Some(kept) = kept {
        output.bytes(&kept.read()?);
    }
    Ok(status)
}

/// Whether an access to memory was at fault, rather than an instruction.
fn is_access(info: &FaultInfo) -> bool {
    use FaultKind::{Arithmetic, Breakpoint, FloatingPoint, IllegalInstruction, Killed, Protection};
    let of_instruction = [Arithmetic, Breakpoint, FloatingPoint, IllegalInstruction, Killed, Protection];
    FaultKind::try_from(info.kind).is_ok_and(|kind| !of_instruction.contains(&kind))
}

/// What happened, and where.
pub(crate) fn fault_text(info: &FaultInfo, rip: u64) -> String {
    let what = FaultKind::try_from(info.kind).map_or("unknown fault", FaultKind::text);
    let mut text = vec![what.to_string()];
    if is_access(info) {
        let access = match info.access {
            access if access & ACCESS_FETCH != 0 => "fetch from",
            access if access & ACCESS_WRITE != 0 => "store to",
            _ => "load from",
        };
        text.push(format!("{access} {:#x}", info.address));
    }
    if !info.object.is_none() {
        text.push(format!("in object {}", info.object));
    }
    if rip != 0 {
        text.push(format!("at instruction {rip:#x}"));
    }
    let rest = text.split_off(1).join(" ");
    if rest.is_empty() { text.remove(0) } else { format!("{}: {rest}", text[0]) }
}
