//! The built-in commands, as a table.

use alloc::format;
use alloc::string::ToString;

use super::failure::{Failure, Outcome};
use super::output::Output;
use super::{Shell, content, machine, objects, program};
use crate::text::Table;

/// A command that the interpreter runs itself.
#[derive(Debug)]
pub(super) struct Builtin {
    /// What it is called.
    pub(super) name: &'static str,
    /// How it is used.
    pub(super) usage: &'static str,
    /// What it does.
    about: &'static str,
    /// Does it.
    pub(super) run: Run,
}

type Run = fn(&mut Shell<'_>, &[&str], &mut Output) -> Outcome;

const fn builtin(name: &'static str, usage: &'static str, about: &'static str, run: Run) -> Builtin {
    Builtin { name, usage, about, run }
}

/// In the order in which `help` shows them.
const OBJECTS: &[Builtin] = &[
    builtin("ls", "ls [-a] [-l] [DIRECTORY]", "lists names", objects::ls),
    builtin("tree", "tree [DIRECTORY]", "lists names and all below them", objects::tree),
    builtin("show", "show OBJECT...", "describes objects, and shows their values", objects::show),
    builtin("create", "create NAME...", "makes empty objects", objects::create),
    builtin("mkdir", "mkdir NAME...", "makes directories", objects::mkdir),
    builtin("name", "name ID NAME", "gives an object a name", objects::name),
    builtin("mv", "mv NAME NEW", "renames", objects::mv),
    builtin("rm", "rm [-r] [-f] NAME...", "removes names and deletes their objects", objects::rm),
    builtin("cp", "cp FROM NAME", "copies an object's bytes to a new object", content::cp),
    builtin("cat", "cat OBJECT...", "writes what objects hold", content::cat),
    builtin("dump", "dump OBJECT [FROM [BYTES]]", "shows an object's bytes", content::dump),
    builtin("echo", "echo [-n] [WORD...]", "writes words", content::echo),
    builtin("put-text", "put-text NAME TEXT", "makes an object that holds a line of text", content::put_text),
];

const SYSTEM: &[Builtin] = &[
    builtin("view", "view", "lists what this view maps", machine::view),
    builtin("ps", "ps", "lists threads", machine::ps),
    builtin("mem", "mem", "shows how DRAM is used", machine::mem),
    builtin("nvm", "nvm", "shows how NVM is used", machine::nvm),
    builtin("quarantine", "quarantine", "lists damaged objects", machine::quarantine),
    builtin("uptime", "uptime", "tells how long the machine has been up", machine::uptime),
    builtin("run", "run PROGRAM [ARGUMENT...]", "runs a program", program::run_named),
    builtin("time", "time COMMAND [ARGUMENT...]", "measures a command", machine::time),
    builtin("help", "help [COMMAND]", "tells what there is", help),
    builtin("exit", "exit [STATUS]", "leaves the shell and powers off", machine::exit),
    builtin("poweroff", "poweroff [STATUS]", "powers off", machine::power_off),
];

/// Names that people try.
const ALIASES: &[(&str, &str)] = &[
    ("rename", "mv"),
    ("delete", "rm"),
    ("stat", "show"),
    ("copy", "cp"),
    ("hexdump", "dump"),
    ("?", "help"),
];

fn all() -> impl Iterator<Item = &'static Builtin> {
    OBJECTS.iter().chain(SYSTEM)
}

/// The names of all built-in commands.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|builtin| builtin.name)
}

/// The built-in command of that name.
pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    all().find(|builtin| builtin.name == name)
}

/// `help [COMMAND]`.
pub(super) fn help(_: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    match arguments {
        [] => {
            for (title, builtins) in [("Objects and names", OBJECTS), ("\nThe system", SYSTEM)] {
                output.line(title);
                table(builtins.iter().map(|builtin| (builtin.usage, builtin.about)), output);
            }
            output.line("\nPrograms");
            let programs = program::archived();
            let about =
                |name: &str| program::ABOUT.iter().find(|(n, _)| *n == name).map_or("", |(_, about)| about);
            table(programs.iter().map(|name| (name.as_str(), about(name))), output);
            output.line(
                "An OBJECT is a name or an ID of 32 hexadecimal digits. Quotes ' \" and \\ work, and so do",
            );
            output.line("; && || # $? and > NAME. Tab completes; up, down and Ctrl-R find earlier lines.");
            Ok(0)
        }
        [name] => {
            let builtin = find(name).ok_or_else(|| no_help(name))?;
            output.line(format!("{}\n  {}", builtin.usage, builtin.about));
            Ok(0)
        }
        _ => Err(Failure::Usage),
    }
}

/// Programs tell about themselves.
fn no_help(name: &str) -> Failure {
    Failure::new(match program::ABOUT.iter().find(|(program, _)| *program == name) {
        Some((_, about)) => {
            format!("`{name}` is a program that {about}; `{name} --help` tells how to use it")
        }
        None => format!("there is no command `{name}`; `help` lists all"),
    })
}

fn table<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>, output: &mut Output) {
    let mut table = Table::new(&["", ""]);
    rows.for_each(|(usage, about)| table.row([format!("  {usage}"), about.to_string()]));
    output.lines(table.lines().into_iter().skip(1));
}
