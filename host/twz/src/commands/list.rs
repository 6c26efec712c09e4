//! `ls` and `tree`: what names there are.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use twizzler_names::{Entry, NameError};

use crate::answer::{Answer, Table};
use crate::medium::Medium;
use crate::object::{Facts, facts};
use crate::open::Opened;
use crate::paths::{clean, join, last_part, shown};
use crate::size::Bytes;
use crate::status::Failure;

/// Arguments of `ls`.
#[derive(Args, Clone, Debug)]
pub struct LsArguments {
    /// The store
    pub store: PathBuf,
    /// A directory in it, or an object
    #[arg(default_value = "")]
    pub name: String,
    /// Also names that begin with a dot
    #[arg(short, long)]
    pub all: bool,
    /// Objects, kinds and sizes too
    #[arg(short, long)]
    pub long: bool,
}

/// Arguments of `tree`.
#[derive(Args, Clone, Debug)]
pub struct TreeArguments {
    /// The store
    pub store: PathBuf,
    /// A directory in it
    #[arg(default_value = "")]
    pub name: String,
}

/// A name with what it stands for.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The path from the root.
    pub path: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// Of an object.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub object: Option<Facts>,
}

impl Line {
    fn of<M: Medium>(store: &Opened<M>, path: String, entry: Entry) -> Self {
        let object = match entry {
            Entry::Object(id) => Some(facts(store.medium(), id)),
            Entry::Directory => None,
        };
        Self { path, directory: object.is_none(), object }
    }

    fn name(&self) -> String {
        let slash = if self.directory { "/" } else { "" };
        format!("{}{slash}", last_part(&self.path))
    }
}

#[derive(Clone, Debug, Serialize)]
struct Listing {
    entries: Vec<Line>,
    #[serde(skip)]
    long: bool,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.long {
            return self.entries.iter().try_for_each(|line| writeln!(f, "{}", line.name()));
        }
        let mut table = Table::new(&["OBJECT", "KIND", ">LENGTH", ">STORED", "NAME"]);
        for line in &self.entries {
            let name = line.name();
            table.row(match &line.object {
                None => [String::new(), "directory".into(), String::new(), String::new(), name],
                Some(object) => {
                    let kind = object.type_name.as_deref().unwrap_or(object.kind.text());
                    let stored = Bytes(object.stored_bytes).to_string();
                    [object.id.clone(), kind.to_owned(), object.len_bytes.to_string(), stored, name]
                }
            });
        }
        table.fmt(f)
    }
}

/// `ls`.
///
/// # Errors
/// No such name.
pub fn ls<M: Medium>(store: &Opened<M>, arguments: &LsArguments) -> Result<Answer, Failure> {
    let path = clean(&arguments.name);
    let listed = match store.names(&store.space.enter())?.list(path) {
        Ok(listed) => listed.into_iter().map(|(name, entry)| (join(path, &name), entry)).collect(),
        Err(NameError::NotADirectory | NameError::NoSuchName) => {
            vec![(path.to_owned(), store.entry(path)?)]
        }
        Err(error) => return Err(Failure::of(shown(path))(error)),
    };
    let is_shown = |name: &str| arguments.all || !last_part(name).starts_with('.') || name == path;
    let entries = listed.into_iter().filter(|(name, _)| is_shown(name));
    let entries = entries.map(|(name, entry)| Line::of(store, name, entry)).collect();
    Ok(Answer::of(&Listing { entries, long: arguments.long }))
}

#[derive(Clone, Debug, Serialize)]
struct Tree {
    entries: Vec<Line>,
    #[serde(skip)]
    above: usize,
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.entries {
            let depth = line.path.matches('/').count() - self.above;
            let mark =
                line.object.as_ref().filter(|object| object.damage.is_some()).map_or("", |_| "  (damaged)");
            writeln!(f, "{}{}{mark}", "  ".repeat(depth), line.name())?;
        }
        Ok(())
    }
}

/// `tree`.
///
/// # Errors
/// No such directory.
pub fn tree<M: Medium>(store: &Opened<M>, arguments: &TreeArguments) -> Result<Answer, Failure> {
    let path = clean(&arguments.name);
    let entries =
        store.walk(path)?.into_iter().map(|named| Line::of(store, named.path, named.entry)).collect();
    let above = if path.is_empty() { 0 } else { path.matches('/').count() + 1 };
    Ok(Answer::of(&Tree { entries, above }))
}
