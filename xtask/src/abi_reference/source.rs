//! What the source of the ABI says about its items: documentation comments by struct and field, and by
//! table and value. It reads the plain style that `shared/abi` is written in, no more.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A documented struct.
#[derive(Debug, Default)]
pub(super) struct Structure {
    name: String,
    pub(super) doc: String,
    fields: Vec<(String, String)>,
}

impl Structure {
    /// The documentation of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, doc)| doc.as_str())
    }
}

/// A value of a table: an enum made by a macro, or a set of flags.
#[derive(Debug)]
struct Value {
    table: String,
    name: String,
    number: String,
    doc: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Source {
    structures: Vec<Structure>,
    values: Vec<Value>,
}

impl Source {
    /// Reads all files of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut source = Self::default();
        for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
            let path = entry?.path();
            source.add(&fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?);
        }
        Ok(source)
    }

    fn add(&mut self, text: &str) {
        let mut doc = String::new();
        let mut structure = None::<Structure>;
        let mut table = None::<String>;
        for line in text.lines().map(str::trim) {
            if let Some(more) = line.strip_prefix("///") {
                doc.push_str(more);
                continue;
            }
            if line.starts_with("#[") {
                continue;
            }
            if line.starts_with('}') {
                self.structures.extend(structure.take());
                table = None;
            } else if let Some(structure) = &mut structure {
                if let Some((name, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
                    structure.fields.push((name.to_owned(), doc.clone()));
                }
            } else if let Some(name) = table_name(line) {
                table = Some(name);
            } else if let Some(name) = structure_name(line) {
                structure = Some(Structure { name: name.to_owned(), doc: doc.clone(), fields: Vec::new() });
            } else if let (Some(table), Some((name, number))) = (&table, value(line)) {
                self.values.push(Value { table: table.clone(), name, number, doc: doc.clone() });
            }
            doc.clear();
        }
    }

    pub(super) fn structure(&self, name: &str) -> Option<&Structure> {
        self.structures.iter().find(|structure| structure.name == name)
    }

    /// The documentation of one value of a table.
    pub(super) fn value(&self, table: &str, name: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|value| value.table == table && value.name == name)
            .map(|value| value.doc.as_str())
    }

    /// All values of a table: name, number, documentation.
    pub(super) fn values(&self, table: &str) -> impl Iterator<Item = (&str, &str, &str)> {
        let of_table = self.values.iter().filter(move |value| value.table == table);
        of_table.map(|value| (value.name.as_str(), value.number.as_str(), value.doc.as_str()))
    }
}

fn structure_name(line: &str) -> Option<&str> {
    line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {"))
}

fn table_name(line: &str) -> Option<String> {
    let of_macro = line.strip_suffix("! {").filter(|name| ["errors", "faults"].contains(name));
    let of_flags = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(": u32 {"));
    of_macro.or(of_flags).map(str::to_owned)
}

fn value(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("const ").unwrap_or(line);
    let (name, rest) = line.split_once(" = ")?;
    let number = rest.split([',', ';']).next()?;
    name.chars()
        .all(|letter| letter.is_alphanumeric() || letter == '_')
        .then(|| (name.to_owned(), number.to_owned()))
}
