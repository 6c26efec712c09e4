//! Aligned columns.

use alloc::string::String;
use alloc::vec::Vec;

use super::width;

/// Rows of cells. A column is as wide as its widest cell; columns named `>` at the front are aligned to the right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; one that starts with `>` is aligned to the right.
    #[must_use]
    pub fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let first = headings.iter().map(|heading| heading.trim_start_matches('>').into()).collect();
        Self { right, rows: [first].into() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// True where no row was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.len() <= 1
    }

    /// The lines, without blanks at their ends.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max())
            .map(Option::unwrap_or_default)
            .collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, &wide), &right) in row.iter().zip(widths).zip(&self.right) {
            if !line.is_empty() {
                line += "  ";
            }
            let blanks = wide.saturating_sub(width(cell));
            let (before, after) = if right { (blanks, 0) } else { (0, blanks) };
            line.extend(core::iter::repeat_n(' ', before));
            line += cell;
            line.extend(core::iter::repeat_n(' ', after));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Words in as many columns as fit, read downwards.
#[must_use]
pub fn columns(words: &[String], room: usize) -> Vec<String> {
    let wide = words.iter().map(|word| width(word)).max().unwrap_or(0) + 2;
    let across = (room / wide).max(1);
    let rows = words.len().div_ceil(across);
    let line = |row: usize| {
        let mut line = String::new();
        for word in words.iter().skip(row).step_by(rows.max(1)) {
            line += word;
            line.extend(core::iter::repeat_n(' ', wide - width(word)));
        }
        line.truncate(line.trim_end().len());
        line
    };
    (0..rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned() {
        let mut table = Table::new(&["NAME", ">SIZE", "KIND"]);
        table.row(["日本".into(), "1".into(), "a".into()]);
        table.row(["b".into(), "1000".into(), String::new()]);
        assert_eq!(table.lines(), ["NAME  SIZE  KIND", "日本     1  a", "b     1000"]);
    }

    #[test]
    fn words_fill_columns_downwards() {
        let words: Vec<String> = ["a", "bb", "c", "d", "e"].map(Into::into).into();
        assert_eq!(columns(&words, 12), ["a   c   e", "bb  d"]);
        assert_eq!(columns(&words, 1).len(), 5);
        assert!(columns(&[], 80).is_empty());
    }
}
