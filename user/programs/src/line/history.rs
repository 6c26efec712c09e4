//! Lines that were entered before.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};

/// Most lines that are kept.
const LINES_MAX: usize = 500;

/// Lines, oldest first, none twice in a row.
#[derive(Debug, Default)]
pub struct History {
    lines: VecDeque<String>,
}

impl History {
    /// Lines from a text, one on each line.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let mut history = Self::default();
        text.lines().for_each(|line| history.push(line));
        history
    }

    /// The lines as such a text.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// Adds a line, unless it is empty, starts with a blank or repeats the last.
    pub fn push(&mut self, line: &str) {
        if line.trim().is_empty()
            || line.starts_with(' ')
            || self.lines.back().is_some_and(|last| last == line)
        {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_string());
    }

    /// Lines kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True where there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// A line by its age, from 0, the oldest.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        self.lines.get(index).map(String::as_str)
    }

    /// The latest line.
    #[must_use]
    pub fn last(&self) -> Option<&str> {
        self.lines.back().map(String::as_str)
    }

    /// The latest line before `before` that holds `text`.
    #[must_use]
    pub fn find(&self, text: &str, before: usize) -> Option<usize> {
        (0..before.min(self.len())).rev().find(|&index| self.lines[index].contains(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn keeps_what_is_worth_it() {
        let history = History::from_text("a\na\n\n secret\nb\na\n");
        assert_eq!(history.to_text(), "a\nb\na\n");
        assert_eq!(history.find("a", 2), Some(0));
        assert_eq!(history.find("c", 3), None);
    }

    #[test]
    fn forgets_the_oldest() {
        let mut history = History::default();
        (0..LINES_MAX + 2).for_each(|number| history.push(&format!("{number}")));
        assert_eq!((history.len(), history.get(0)), (LINES_MAX, Some("2")));
    }
}
