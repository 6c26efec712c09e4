//! How the word before the cursor may go on.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The word that is to be completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word<'a> {
    /// What stands there so far.
    pub text: &'a str,
    /// It is the first of a command.
    pub first: bool,
    /// The command's first word; that itself, where it is the first.
    pub command: &'a str,
}

/// The word that ends `line`; empty after a blank.
#[must_use]
pub fn word(line: &str) -> Word<'_> {
    let start = line.rfind([';', '&', '|']).map_or(0, |at| at + 1);
    let command = line[start..].trim_start();
    let text = command.rsplit([' ', '\t', '>']).next().unwrap_or("");
    let first = text.len() == command.len();
    Word { text, first, command: command.split([' ', '\t', '>']).next().unwrap_or("") }
}

/// What to do about a word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Completion {
    /// Nothing fits.
    Nothing,
    /// Insert this.
    Insert(String),
    /// These fit, and they have nothing more in common.
    Choices(Vec<String>),
}

/// Completes `text` from candidates; those that end with `/` go on, others end the word.
#[must_use]
pub fn complete(text: &str, candidates: impl IntoIterator<Item = String>) -> Completion {
    let mut fitting: Vec<String> =
        candidates.into_iter().filter(|candidate| candidate.starts_with(text)).collect();
    fitting.sort_unstable();
    fitting.dedup();
    match fitting.as_slice() {
        [] => Completion::Nothing,
        [only] => {
            let end = if only.ends_with('/') { "" } else { " " };
            Completion::Insert(only[text.len()..].to_string() + end)
        }
        [first, .., last] => {
            // Sorted, so what first and last share is shared by all.
            let shared: usize =
                first.chars().zip(last.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
            if shared > text.len() {
                Completion::Insert(first[text.len()..shared].to_string())
            } else {
                Completion::Choices(fitting)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_complete(text: &str, candidates: &[&str]) -> Completion {
        complete(text, candidates.iter().map(|&candidate| candidate.into()))
    }

    #[test]
    fn the_word_is_found() {
        assert_eq!(word("sh"), Word { text: "sh", first: true, command: "sh" });
        assert_eq!(word("ls a/b"), Word { text: "a/b", first: false, command: "ls" });
        assert_eq!(word("a; cat "), Word { text: "", first: false, command: "cat" });
        assert_eq!(word("a && l"), Word { text: "l", first: true, command: "l" });
        assert_eq!(word("echo a >b"), Word { text: "b", first: false, command: "echo" });
        assert_eq!(word(""), Word { text: "", first: true, command: "" });
    }

    #[test]
    fn what_fits_is_inserted_or_listed() {
        assert_eq!(try_complete("x", &["a", "b"]), Completion::Nothing);
        assert_eq!(try_complete("he", &["help", "ls"]), Completion::Insert("lp ".into()));
        assert_eq!(try_complete("d", &["dir/"]), Completion::Insert("ir/".into()));
        assert_eq!(try_complete("m", &["memory", "memo", "ls"]), Completion::Insert("emo".into()));
        assert_eq!(try_complete("m", &["ma", "mb"]), Completion::Choices(["ma".into(), "mb".into()].into()));
        assert_eq!(try_complete("ä", &["äöx", "äöy"]), Completion::Insert("ö".into()));
        assert_eq!(try_complete("a", &["aä", "aö"]), Completion::Choices(["aä".into(), "aö".into()].into()));
    }
}
