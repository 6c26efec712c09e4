//! What a command answers: the same facts as text for people and as JSON for programs.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::status::Status;

/// Version of the JSON that commands write. Fields may be added; one that is there keeps its name and meaning.
pub const SCHEMA: u32 = 1;

/// A command's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// For programs.
    pub json: Value,
    /// For people: whole lines, or nothing.
    pub text: String,
    /// How the command ended.
    pub status: Status,
}

impl Answer {
    /// An answer that says `facts`.
    pub fn of<T: Serialize + fmt::Display>(facts: &T) -> Self {
        let json = serde_json::to_value(facts).expect("facts are plain data with names for keys");
        Self { json, text: facts.to_string(), status: Status::Done }
    }

    /// The same with another status.
    #[must_use]
    pub fn with(self, status: Status) -> Self {
        Self { status, ..self }
    }
}

/// Rows with aligned columns. A heading that starts with `>` makes its column right-aligned.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings; all empty: none is shown.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        Self { headings: headings.iter().map(|&heading| heading.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<&str> = self.headings.iter().map(|heading| heading.trim_start_matches('>')).collect();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for ((cell, heading), &width) in cells.zip(&self.headings).zip(&widths) {
                if heading.starts_with('>') {
                    text.push_str(&format!("{cell:>width$}  "));
                } else {
                    text.push_str(&format!("{cell:<width$}  "));
                }
            }
            writeln!(f, "{}", text.trim_end())
        };
        if self.rows.is_empty() {
            return Ok(());
        }
        if titles.iter().any(|title| !title.is_empty()) {
            line(&mut titles.iter().copied())?;
        }
        self.rows.iter().try_for_each(|row| line(&mut row.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", ">BYTES"]);
        table.row(["a".into(), "100".into()]);
        table.row(["letters".into(), "7".into()]);
        assert_eq!(table.to_string(), "NAME     BYTES\na          100\nletters      7\n");
        assert_eq!(Table::new(&["NAME"]).to_string(), "");
    }
}
