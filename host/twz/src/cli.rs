//! The command line.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde_json::json;

use crate::answer::{Answer, SCHEMA};
use crate::commands::{backup, change, check, content, create, export, gc, import, list, repair, show, stat};
use crate::open::{For, open, with_store};
use crate::status::{Failure, Status};

/// Looks into and changes stores of objects: NVM images and directories.
///
/// A store is a directory, or the file of an NVM image. Objects in it have names, such as letters/first; wherever a name is
/// asked for, an object's ID will do too.
#[derive(Parser, Clone, Debug)]
#[command(name = "twz", version, after_help = AFTER, max_term_width = 100)]
pub struct Arguments {
    /// Answer in JSON, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Verb,
}

const AFTER: &str = "\
Examples:
  twz create notes.img --size 1G        an empty store in an NVM image
  twz put notes.img letter.txt          a file goes in
  twz ls -l notes.img                   what is there
  twz cat notes.img letter.txt          and out to the terminal
  twz check notes.img                   is all well?

Exit status:
  0 done   1 done, and something was found   2 wrong command line   3 no such store, name or file
  4 taken or in use   5 damaged, of another version, or not a store   6 no room   7 not allowed
  8 the host could not read or write";

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Verb {
    /// Make an empty store
    #[command(
        after_help = "Examples:\n  twz create notes                      a store in a directory, for programs on this machine\n  twz create nvm.img --size 1G          an NVM image, for Twizzler: cargo run -- run --nvm nvm.img"
    )]
    Create(create::Arguments),
    /// List names
    #[command(after_help = "Examples:\n  twz ls notes\n  twz ls -l notes letters")]
    Ls(list::LsArguments),
    /// List all names below a directory
    #[command(after_help = "Example: twz tree notes letters")]
    Tree(list::TreeArguments),
    /// Describe the store, or objects in it
    #[command(
        after_help = "Examples:\n  twz stat notes                        the store: how many objects, how much room\n  twz stat notes letters/first          an object: ID, type, size, names"
    )]
    Stat(stat::Arguments),
    /// Show an object from the inside
    #[command(after_help = "Example: twz show notes letters/first --from 4096 --bytes 64")]
    Show(show::Arguments),
    /// Write what objects hold to standard output
    #[command(after_help = "Example: twz cat notes letters/first letters/second")]
    Cat(content::CatArguments),
    /// Put host files in
    #[command(
        after_help = "Examples:\n  twz put notes letter.txt letters/first\n  twz put notes folder                  all its files, as folder/...\n  echo hello | twz put notes - greeting"
    )]
    Put(content::PutArguments),
    /// Get objects' bytes out into host files
    #[command(
        after_help = "Examples:\n  twz get notes letters/first letter.txt\n  twz get notes letters copy            all files below letters"
    )]
    Get(content::GetArguments),
    /// Make directories
    #[command(after_help = "Example: twz mkdir -p notes letters/old")]
    Mkdir(change::MkdirArguments),
    /// Give an object or a directory another name
    #[command(after_help = "Example: twz mv notes letters/first letters/old")]
    Mv(change::TwoNames),
    /// Give an object one more name
    #[command(after_help = "Example: twz ln notes letters/first favourite")]
    Ln(change::TwoNames),
    /// Remove names, and objects with their last name
    #[command(
        after_help = "Examples:\n  twz rm notes letters/first\n  twz rm -r notes letters\n\nAn object goes with its last name. What only it led to stays, until `twz gc` deletes it."
    )]
    Rm(change::RmArguments),
    /// Look for damage; changes nothing
    #[command(
        after_help = "Example: twz check notes\n\nThe exit status is 1 if something is wrong. What was changed in place can't be told: only the store's own\nstructures and metadata carry check codes."
    )]
    Check(check::Arguments),
    /// Mend what can be mended
    #[command(
        after_help = "Example: twz repair notes\n\nNothing is destroyed without --force: names that lead nowhere go, objects without names get one in lost+found."
    )]
    Repair(repair::Arguments),
    /// List objects that nothing leads to, or delete them
    #[command(
        after_help = "Examples:\n  twz gc notes                          lists; the exit status is 1 if there are any\n  twz gc notes --delete"
    )]
    Gc(gc::Arguments),
    /// Copy a whole store
    #[command(
        after_help = "Example: twz backup notes notes.backup\n\nA store in a directory may be in use meanwhile: the copy is the store at one moment."
    )]
    Backup(backup::Arguments),
    /// Write objects, their names and all that they lead to into an archive
    #[command(
        after_help = "Examples:\n  twz export notes all.twz\n  twz export notes - letters | ssh there twz import notes -"
    )]
    Export(export::Arguments),
    /// Take the objects and names of an archive in
    #[command(
        after_help = "Examples:\n  twz import notes all.twz\n  twz import notes all.twz --into from-there\n\nObjects keep their IDs, so pointers between them hold. Nothing is changed if the archive is not whole, or if the\nstore has something else under an ID or name and neither --keep nor --replace is given."
    )]
    Import(import::Arguments),
}

/// Opens the store, does something with it, and closes it in order.
macro_rules! on {
    ($arguments:expr, $access:ident, |$store:ident| $do:expr) => {
        with_store!(open(&$arguments.store, For::$access)?, store => {
            let $store = store;
            let answer = $do;
            let closed = $store.close();
            answer.and_then(|answer| closed.map(|()| answer))
        })
    };
}

/// True where a command writes content to standard output.
fn writes_content(command: &Verb) -> bool {
    match command {
        Verb::Get(a) => a.file.as_ref().is_some_and(|file| file.as_os_str() == "-"),
        Verb::Export(a) => a.archive.as_os_str() == "-",
        _ => false,
    }
}

fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    if arguments.json && writes_content(&arguments.command) {
        let what = "the content and the answer of --json can't both go to standard output";
        return Err(Failure::new(Status::Usage, what).advise("name a file for the content"));
    }
    match &arguments.command {
        Verb::Create(a) => create::run(a),
        Verb::Ls(a) => on!(a, Reading, |store| list::ls(&store, a)),
        Verb::Tree(a) => on!(a, Reading, |store| list::tree(&store, a)),
        Verb::Stat(a) => on!(a, Reading, |store| stat::run(&store, a)),
        Verb::Show(a) => on!(a, Reading, |store| show::run(&store, a)),
        Verb::Cat(a) => on!(a, Reading, |store| content::cat(&store, a, arguments.json)),
        Verb::Put(a) => on!(a, Changing, |store| content::put(&store, a)),
        Verb::Get(a) => on!(a, Reading, |store| content::get(&store, a)),
        Verb::Mkdir(a) => on!(a, Changing, |store| change::mkdir(&store, a)),
        Verb::Mv(a) => on!(a, Changing, |store| change::mv(&store, a)),
        Verb::Ln(a) => on!(a, Changing, |store| change::ln(&store, a)),
        Verb::Rm(a) => on!(a, Changing, |store| change::rm(&store, a)),
        Verb::Check(a) => on!(a, Checking, |store| check::run(&store)),
        Verb::Repair(a) if a.force => on!(a, Salvaging, |store| repair::run(&store, a)),
        Verb::Repair(a) => on!(a, Alone, |store| repair::run(&store, a)),
        Verb::Gc(a) if a.delete => on!(a, Alone, |store| gc::run(&store, a)),
        Verb::Gc(a) => on!(a, Reading, |store| gc::run(&store, a)),
        Verb::Backup(a) => backup::run(a),
        Verb::Export(a) => export::run(a),
        Verb::Import(a) if a.replace => import::replacing(a),
        Verb::Import(a) => on!(a, Changing, |store| import::run(&store, a)),
    }
}

/// What a command line says, and the name of its command.
fn parse(words: impl IntoIterator<Item = OsString>) -> Result<(Arguments, String), clap::Error> {
    let matches = Arguments::command().try_get_matches_from(words)?;
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    Ok((Arguments::from_arg_matches(&matches)?, name))
}

/// Does what a command line says, and gives the answer: `twz` as a function.
///
/// # Errors
/// Those of the command; a wrong command line.
pub fn answer(words: &[&str]) -> Result<Answer, Failure> {
    let parsed = parse(["twz"].iter().chain(words).map(Into::into));
    run(&parsed.map_err(|message| Failure::new(Status::Usage, message.to_string()))?.0)
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    twizzler::survive_file_size_limits();
    let (arguments, name) = match parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(message) => {
            if message.use_stderr() && std::env::args_os().any(|word| word == "--json") {
                let text = message.to_string();
                let text = text.trim_start_matches("error: ").trim_end();
                complain(
                    "",
                    true,
                    &Failure::new(Status::Usage, text).advise("`twz help` lists the commands"),
                );
            } else {
                let _ = message.print();
            }
            return ExitCode::from(if message.use_stderr() { Status::Usage as u8 } else { 0 });
        }
    };
    let (out, status) = match run(&arguments) {
        Ok(answer) if arguments.json => {
            let json =
                json!({ "twz": SCHEMA, "command": name, "status": answer.status, "answer": answer.json });
            (format!("{json:#}\n"), answer.status)
        }
        Ok(answer) => (answer.text, answer.status),
        Err(failure) => {
            complain(&name, arguments.json, &failure);
            return ExitCode::from(failure.status as u8);
        }
    };
    match std::io::stdout().write_all(out.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Ok(()) => ExitCode::from(status as u8),
        // Whoever read our output has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(status as u8),
        Err(error) => {
            let failure = Failure::io(std::path::Path::new("standard output"), &error);
            complain(&name, arguments.json, &failure);
            ExitCode::from(failure.status as u8)
        }
    }
}

fn complain(name: &str, as_json: bool, failure: &Failure) {
    let text = if as_json {
        let error = json!({ "kind": failure.status, "what": failure.what, "advice": failure.advice });
        format!("{:#}", json!({ "twz": SCHEMA, "command": name, "status": failure.status, "error": error }))
    } else {
        format!("twz {name}: {failure}")
    };
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
