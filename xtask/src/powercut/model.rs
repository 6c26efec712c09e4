//! What the machine should hold: which texts are in the index, and what the key-value store says.

use std::collections::{BTreeMap, BTreeSet};

use crate::corpus::Text;
use crate::naive::Counts;
use crate::random::Random;

/// One command that changes something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Adds texts to the index.
    Add(Vec<usize>),
    /// Takes a text out of the index.
    Remove(usize),
    /// Gives a key a value.
    Put(u64, u64),
}

impl Change {
    /// The shell command.
    pub(super) fn command(&self, texts: &[Text]) -> String {
        match self {
            Self::Add(added) => {
                added.iter().fold("index add".to_owned(), |command, &text| command + " " + &texts[text].name)
            }
            Self::Remove(text) => format!("index rm {}", texts[*text].name),
            Self::Put(key, value) => format!("kv put marks key{key:03} value{value}"),
        }
    }
}

/// A state between two commands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    /// The texts in the index.
    pub(super) indexed: BTreeSet<usize>,
    /// What the store holds.
    pub(super) marks: BTreeMap<u64, u64>,
}

impl State {
    /// The state after a command.
    pub(super) fn after(&self, change: &Change) -> Self {
        let mut after = self.clone();
        match change {
            Change::Add(texts) => after.indexed.extend(texts),
            Change::Remove(text) => {
                after.indexed.remove(text);
            }
            Change::Put(key, value) => {
                after.marks.insert(*key, *value);
            }
        }
        after
    }

    /// What `kv scan marks` prints.
    fn scan(&self) -> String {
        self.marks.iter().map(|(key, value)| format!("key{key:03}\tvalue{value}\n")).collect()
    }
}

/// Commands that go on from a state: texts that are not yet in the index, in small groups; when all are
/// in, removals and additions of single ones; and marks between them.
pub(super) fn changes(from: &State, texts: usize, random: &mut Random, len: usize) -> Vec<Change> {
    let mut state = from.clone();
    (0..len)
        .map(|_| {
            let change = change(&state, texts, random);
            state = state.after(&change);
            change
        })
        .collect()
}

fn change(state: &State, texts: usize, random: &mut Random) -> Change {
    const GROUP_MAX: u64 = 24;
    const KEYS: u64 = 200;
    if random.below(4) == 0 {
        return Change::Put(random.below(KEYS), random.below(1_000_000));
    }
    let missing = (0..texts).filter(|text| !state.indexed.contains(text));
    let group: Vec<usize> = missing.take(1 + random.below(GROUP_MAX) as usize).collect();
    if group.is_empty() || (!state.indexed.is_empty() && random.below(12) == 0) {
        let indexed: Vec<usize> = state.indexed.iter().copied().collect();
        return Change::Remove(*random.pick(&indexed));
    }
    Change::Add(group)
}

/// A question that both the machine and the model answer.
#[derive(Clone, Debug)]
pub(super) enum Question {
    /// `index search`.
    Search(Vec<String>),
    /// `index top`.
    Top(usize),
    /// `kv scan`.
    Marks,
}

impl Question {
    /// The shell command.
    pub(super) fn command(&self) -> String {
        match self {
            Self::Search(words) => format!("index search {}", words.join(" ")),
            Self::Top(len) => format!("index top {len}"),
            Self::Marks => "kv scan marks".to_owned(),
        }
    }

    /// The right answer in a state.
    pub(super) fn answer(&self, state: &State, counts: &Counts) -> String {
        match self {
            Self::Search(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                counts.search(&words, &state.indexed)
            }
            Self::Top(len) => counts.top(*len, &state.indexed),
            Self::Marks => state.scan(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_lead_to_all_texts() {
        let mut random = Random::new(1);
        let changes = changes(&State::default(), 50, &mut random, 200);
        let mut most = 0;
        let mut state = State::default();
        for change in &changes {
            state = state.after(change);
            most = most.max(state.indexed.len());
        }
        assert_eq!(most, 50);
        assert!(!state.marks.is_empty());
    }
}
