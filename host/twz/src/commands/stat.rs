//! `stat`: facts about a store, or about objects in it.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use twizzler_abi::SizeClass;
use twizzler_names::Entry;

use crate::answer::{Answer, Table};
use crate::medium::{Description, Medium};
use crate::object::{Facts, facts};
use crate::open::Opened;
use crate::size::Bytes;
use crate::status::Failure;

/// Arguments of `stat`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
    /// Names or IDs of objects; without, the store itself is described
    pub names: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct StoreFacts {
    #[serde(flatten)]
    about: Description,
    names: u64,
    directories: u64,
}

impl fmt::Display for StoreFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, names, directories } = self;
        let mut table = Table::new(&["", ""]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        row("kind", format!("{}, version {}", about.kind, about.version));
        row("uuid", about.uuid.clone());
        row("objects", format!("{}, of them {names} named, in {directories} directories", about.objects));
        row("used", Bytes(about.used_bytes).to_string());
        row("free", Bytes(about.free_bytes).to_string());
        table.fmt(f)
    }
}

/// An object with its names.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectFacts {
    /// All its names.
    pub names: Vec<String>,
    /// What it is.
    #[serde(flatten)]
    pub facts: Facts,
}

#[derive(Clone, Debug, Serialize)]
struct Objects {
    objects: Vec<ObjectFacts>,
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, object) in self.objects.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            object.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ObjectFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table().fmt(f)
    }
}

impl ObjectFacts {
    /// The facts, one in a row.
    pub(crate) fn table(&self) -> Table {
        let Self { names, facts } = self;
        let mut table = Table::new(&["", ""]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        row("object", facts.id.clone());
        if !names.is_empty() {
            row(if names.len() == 1 { "name" } else { "names" }, names.join(", "));
        }
        row("kind", format!("{} ({})", facts.kind.text(), facts.life));
        if let Some(fingerprint) = &facts.fingerprint {
            let name = facts.type_name.as_deref().unwrap_or("unnamed");
            row("type", format!("{name} (fingerprint {fingerprint})"));
        }
        if let Some(owner) = &facts.owner {
            row("owner", owner.clone());
        }
        row("rights", facts.rights.clone());
        row("length", format!("{} bytes", facts.len_bytes));
        if facts.range_bytes > SizeClass::Small.range_bytes() {
            row("range", Bytes(facts.range_bytes).to_string());
        }
        row("stored", Bytes(facts.stored_bytes).to_string());
        if let Some(damage) = &facts.damage {
            row("damage", damage.clone());
        }
        table
    }
}

/// Facts about the object that a name or an ID stands for.
///
/// # Errors
/// There is none.
pub fn object_facts<M: Medium>(store: &Opened<M>, text: &str) -> Result<ObjectFacts, Failure> {
    let id = store.object(text)?;
    let facts = facts(store.medium(), id);
    if facts.kind == crate::object::Kind::Missing {
        return Err(Failure::of(text)(twizzler_abi::Error::NoSuchObject));
    }
    let names = store.names_by_id()?.remove(&id).unwrap_or_default();
    Ok(ObjectFacts { names, facts })
}

/// `stat`.
///
/// # Errors
/// No such object.
pub fn run<M: Medium>(store: &Opened<M>, arguments: &Arguments) -> Result<Answer, Failure> {
    if !arguments.names.is_empty() {
        let objects =
            arguments.names.iter().map(|name| object_facts(store, name)).collect::<Result<_, _>>()?;
        return Ok(Answer::of(&Objects { objects }));
    }
    let all = store.walk("")?;
    let directories = all.iter().filter(|named| named.entry == Entry::Directory).count() as u64;
    let names = store.names_by_id()?.len() as u64;
    Ok(Answer::of(&StoreFacts { about: store.medium().describe()?, names, directories: directories + 1 }))
}
