//! Tests the system from a program's side: `selftest [NAME...]`.
//!
//! Prints a line `test NAME ... ok` or `test NAME ... FAILED: REASON` for each test, then `N passed, M failed`; the
//! status tells whether all passed. `selftest list` prints the names.

mod budget;
mod faults;
mod memory;
mod names;
mod processes;
mod threads;

use alloc::format;
use alloc::string::String;

use twizzler_abi::call::USUAL_RIGHTS;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::{args, call, console, exit, print, println, startup};

/// What a test comes to: nothing, or what was wrong.
type Verdict = Result<(), String>;
/// A test.
type Test = (&'static str, fn() -> Verdict);

const READ_WRITE: Rights = Rights::READ.union(Rights::WRITE);

fn tests() -> impl Iterator<Item = &'static Test> {
    [memory::TESTS, names::TESTS, threads::TESTS, faults::TESTS, processes::TESTS, budget::TESTS]
        .into_iter()
        .flatten()
}

/// The program.
#[must_use]
pub fn run() -> u64 {
    let arguments = args::all();
    match arguments.get(1).map(String::as_str) {
        Some("child") => return processes::child(&arguments[2..]),
        Some("list") => {
            tests().for_each(|(name, _)| println!("{name}"));
            return exit::SUCCESS;
        }
        Some("help" | "--help") => {
            println!(
                "usage: selftest [NAME...]     the tests whose names contain one of these; `selftest list` lists them"
            );
            return exit::SUCCESS;
        }
        _ => {}
    }
    let wanted = |name: &str| {
        arguments.len() < 2 || arguments[1..].iter().any(|argument| name.contains(argument.as_str()))
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests().filter(|(name, _)| wanted(name)) {
        print!("test {name} ... ");
        console::flush();
        match test() {
            Ok(()) => {
                println!("ok");
                passed += 1;
            }
            Err(reason) => {
                println!("FAILED: {reason}");
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { exit::SUCCESS } else { exit::FAILURE }
}

/// For `map_err`: says what was tried.
fn failed<E: core::fmt::Debug>(what: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error:?}")
}

/// Fails unless both are the same.
fn same<T: PartialEq + core::fmt::Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

/// Fails unless it holds.
fn holds(what: &str, holds: bool) -> Verdict {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// An object that is deleted when the test ends.
struct Temporary(ObjId);

impl Temporary {
    fn new(flags: ObjectFlags) -> Result<Self, Error> {
        Self::granting(flags, USUAL_RIGHTS)
    }

    fn granting(flags: ObjectFlags, rights: Rights) -> Result<Self, Error> {
        let id = call::create(flags, rights)?;
        if !flags.contains(ObjectFlags::PERSISTENT) {
            startup::own(id);
        }
        Ok(Self(id))
    }

    fn map(&self) -> Result<Mapping, Error> {
        Mapping::new(self.0, READ_WRITE)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = call::delete(self.0);
        startup::disown(self.0);
    }
}

impl From<Failed> for String {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}

/// An error of a call that should have worked.
struct Failed(String);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(format!("a call failed: {error}"))
    }
}

/// Runs a test in which any failing call is a failure.
fn calls(test: impl FnOnce() -> Result<Verdict, Error>) -> Verdict {
    test().map_err(|error| String::from(Failed::from(error)))?
}
