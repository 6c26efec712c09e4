//! Searches texts: the command `index` of Twizzler, over a store on Linux. The program is the same library; the index that it makes is
//! the same, byte for byte, and can be carried over with `twz export` and `twz import`.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use twizzler::{Entry, NameError, Names, Store};
use twizzler_index::Streams;

/// Indexes texts and searches them; a second process may search while this one adds.
#[derive(Parser)]
#[command(after_help = "Other commands are those of `index`: add, rm, search, top, stat, drop, help.")]
struct Arguments {
    /// Directory of the store; made where there is none.
    store: PathBuf,
    /// `put FILE...` copies files into the store, each under its own name; else a command of `index`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Copies files into the store; each replaces the one of its name.
fn put(store: &Store, files: &[String]) -> Result<()> {
    for file in files {
        let path = Path::new(file);
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{file} has no name that can be used"))?;
        let content = std::fs::read(path).with_context(|| format!("can't read {file}"))?;
        let guard = store.enter();
        let names = Names::open(&guard)?;
        guard
            .transact(|tx| {
                if let Ok(Entry::Object(_)) = names.lookup_by(tx, name) {
                    names.delete(tx, name)?;
                }
                let text = names.create_any(tx, name)?;
                tx.write_at(text, 0, &content)?;
                tx.set_len_bytes(text, content.len() as u64)?;
                Ok::<_, NameError>(())
            })
            .with_context(|| format!("can't put {file} under the name {name}"))?;
    }
    Ok(())
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let store = Store::open_or_create(&arguments.store)
        .with_context(|| format!("{} can't be used", arguments.store.display()))?;
    let words: Vec<&str> = arguments.command.iter().map(String::as_str).collect();
    let status = match words[..] {
        ["put"] => bail!("put needs files"),
        ["put", ..] => {
            put(&store, &arguments.command[1..])?;
            0
        }
        _ => {
            let mut out = std::io::stdout().lock();
            let mut written = Ok(());
            let mut streams = Streams {
                out: &mut |bytes| {
                    if written.is_ok() {
                        written = out.write_all(bytes);
                    }
                },
                err: &mut |bytes| eprint!("{}", String::from_utf8_lossy(bytes)),
            };
            let status = twizzler_index::run(store.space(), &words, &mut streams);
            written.context("can't write the answer")?;
            status
        }
    };
    store.close()?;
    Ok(ExitCode::from(status))
}
