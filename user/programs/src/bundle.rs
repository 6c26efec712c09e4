//! The programs that are one file: the first program, the shell, and those for people's work.
//!
//! Their instructions are in memory once: whoever starts one of them runs from the same object (see
//! `twizzler_rt::process`), so that what one has brought into caches, the next one finds there. The boot archive has a link
//! for each name; the name that a program was started under says which one it is.

use alloc::string::String;
use alloc::vec::Vec;

use twizzler_command::{Streams, advised};
use twizzler_object::Space;
use twizzler_rt::{Rt, args, console, eprintln, exit};

use crate::init;
use crate::shell::{Shell, Style, archived_file};

/// Runs the program that this one was started as.
#[must_use]
pub fn run() -> u64 {
    let arguments = args::all();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        // The kernel gives none.
        [] => init::run(),
        ["shell", ref arguments @ ..] => shell(arguments),
        ["index", ref arguments @ ..] => command("index", |space| {
            twizzler_index::run(space, arguments, &mut Streams { out: &mut out, err: &mut err })
        }),
        ["kv", ref arguments @ ..] => command("kv", |space| {
            twizzler_kv::run(space, arguments, &mut Streams { out: &mut out, err: &mut err })
        }),
        [name, ..] => {
            eprintln!("{name}: there is no such program in this file");
            exit::NO_PROGRAM
        }
    }
}

/// `shell` talks to a person; `shell -c LINE...` runs lines, `shell -f FILE` those of a file of the boot archive.
fn shell(arguments: &[&str]) -> u64 {
    let space = Space::attach(Rt);
    let guard = space.as_ref().map(Space::enter).map_err(|&error| error);
    let guard = guard.as_ref().map_err(|&error| error);
    match arguments {
        [] => Shell::new(guard, Style::Terminal).interact(),
        ["-c", lines @ ..] => Shell::new(guard, Style::Script).run_script(&lines.join("\n")),
        ["-f", name] => match archived_file(name).map(String::from_utf8) {
            Some(Ok(script)) => Shell::new(guard, Style::Script).run_script(&script),
            Some(Err(_)) => {
                eprintln!("shell: {name} is not UTF-8");
                exit::USAGE
            }
            None => {
                eprintln!("shell: the boot archive has no {name}");
                exit::NO_PROGRAM
            }
        },
        _ => {
            eprintln!("usage: shell [-c LINE... | -f FILE]");
            exit::USAGE
        }
    }
}

/// A command over the persistent objects.
fn command(name: &str, run: impl FnOnce(&Space<Rt>) -> u8) -> u64 {
    match Space::attach(Rt) {
        Ok(space) => u64::from(run(&space)),
        Err(error) => {
            eprintln!("{name}: persistent objects can't be used: {}", advised(&error));
            exit::FAILURE
        }
    }
}

fn out(bytes: &[u8]) {
    console::write(bytes);
}

fn err(bytes: &[u8]) {
    console::write_message(bytes);
}
