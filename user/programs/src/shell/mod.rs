//! The command interpreter that `shell` and `init` run.
//!
//! [`Shell::run`] takes a line and returns its status. A command is a built-in one ([`builtin`]), a program of
//! the boot archive, or a persistent object that holds a program ([`program`]).

mod builtin;
mod content;
mod failure;
mod kinds;
mod machine;
mod names;
mod objects;
mod output;
pub mod parse;
mod program;
mod terminal;

use alloc::string::String;
use alloc::vec::Vec;

use twizzler_names::NameError;
use twizzler_object::Guard;
use twizzler_rt::{Rt, eprintln, exit};

use builtin::Builtin;
use failure::Failure;
use names::Directory;
use output::Output;
use parse::{Command, Commands, Condition};
pub(crate) use program::{archived_file, archived_program, fault_text};

/// What a command is run with.
#[derive(Debug)]
pub struct Shell<'s> {
    directory: Result<Directory<'s>, NameError>,
    /// Status of the last command.
    status: u64,
    /// `exit` was given.
    leaving: bool,
    style: Style,
    /// Presses of Ctrl-C that have ended a program, and are still to be read as keys.
    interrupts_handled: u64,
    /// Programs of the boot archive that were run before.
    programs: Vec<program::Known>,
}

/// Whom the output is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// A person at a terminal.
    Terminal,
    /// A program: one thing on each line.
    Script,
}

/// A status as the host gets it: 0 to 63.
#[must_use]
pub fn host_status(status: u64) -> u64 {
    status.min(exit::OTHER)
}

impl<'s> Shell<'s> {
    /// A shell over the persistent names in `guard`'s space; without one, over none.
    #[must_use]
    pub fn new(guard: Result<&'s Guard<'s, Rt>, twizzler_abi::Error>, style: Style) -> Self {
        let directory = guard.map_err(NameError::from).and_then(Directory::open);
        Self {
            directory,
            status: exit::SUCCESS,
            leaving: false,
            style,
            interrupts_handled: 0,
            programs: Vec::new(),
        }
    }

    /// Status of the last command.
    #[must_use]
    pub const fn status(&self) -> u64 {
        self.status
    }

    /// Runs a script's lines until one says `exit`; returns the status of the last command.
    pub fn run_script(&mut self, script: &str) -> u64 {
        for line in script.lines().filter(|line| !line.trim().is_empty()) {
            if self.leaving {
                break;
            }
            self.run(line);
        }
        self.status
    }

    /// Runs a line's commands; returns the status of the last.
    pub fn run(&mut self, line: &str) -> u64 {
        match Commands::new(line) {
            Ok(commands) => self.run_all(commands),
            Err(error) => {
                eprintln!("shell: {error}");
                self.status = exit::USAGE;
            }
        }
        self.status
    }

    fn run_all(&mut self, mut commands: Commands<'_>) {
        while !self.leaving
            && let Ok(Some(command)) = commands.next(self.status)
        {
            let wanted = match command.condition {
                Condition::Always => true,
                Condition::Success => self.status == exit::SUCCESS,
                Condition::Failure => self.status != exit::SUCCESS,
            };
            if wanted {
                self.status = self.run_command(&command);
            }
        }
    }

    fn run_command(&mut self, command: &Command) -> u64 {
        let mut output = if command.output.is_some() { Output::Kept(Vec::new()) } else { Output::Console };
        let status = self.dispatch(&command.words, &mut output);
        let Some(redirect) = &command.output else { return status };
        match content::keep_output(self, redirect, output) {
            Ok(()) => status,
            Err(failure) => self.report(&redirect.name, None, failure),
        }
    }

    /// Runs one command with its arguments; returns its status.
    fn dispatch(&mut self, words: &[String], output: &mut Output) -> u64 {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((&name, arguments)) = words.split_first() else { return exit::SUCCESS };
        let result = match builtin::find(name) {
            Some(_) if arguments == ["--help"] => builtin::help(self, &[name], output),
            Some(builtin) => (builtin.run)(self, arguments, output),
            None => program::run(self, &words, output),
        };
        match result {
            Ok(status) => status,
            Err(failure) => self.report(name, builtin::find(name), failure),
        }
    }

    /// Says what went wrong; returns the status for it.
    fn report(&self, name: &str, builtin: Option<&Builtin>, failure: Failure) -> u64 {
        match (failure, builtin) {
            (Failure::Usage, Some(builtin)) => {
                eprintln!("usage: {}", builtin.usage);
                exit::USAGE
            }
            (Failure::Usage, None) => exit::USAGE,
            (Failure::Message { text, status }, _) => {
                eprintln!("{name}: {text}");
                status
            }
        }
    }
}
