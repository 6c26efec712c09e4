//! What the program `index` should answer, found in the simplest way: by counting words again.
//!
//! Written without a look at the program's own code, so that the two can be held against each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::corpus::Text;

/// How often each text has each word.
#[derive(Debug)]
pub struct Counts {
    names: Vec<String>,
    words: HashMap<String, BTreeMap<usize, u64>>,
}

impl Counts {
    /// Counts the words of texts.
    #[must_use]
    pub fn new(texts: &[Text]) -> Self {
        let mut words: HashMap<String, BTreeMap<usize, u64>> = HashMap::new();
        for (text, Text { content, .. }) in texts.iter().enumerate() {
            for word in
                content.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
            {
                let word = word.chars().flat_map(char::to_lowercase).collect();
                *words.entry(word).or_default().entry(text).or_default() += 1;
            }
        }
        Self { names: texts.iter().map(|text| text.name.clone()).collect(), words }
    }

    /// All words, sorted.
    #[must_use]
    pub fn words(&self) -> Vec<&str> {
        let mut words: Vec<&str> = self.words.keys().map(String::as_str).collect();
        words.sort_unstable();
        words
    }

    /// What `index search` prints when the texts `among` are in the index.
    #[must_use]
    pub fn search(&self, words: &[&str], among: &BTreeSet<usize>) -> String {
        let Some((first, others)) = words.split_first() else { return String::new() };
        let Some(hits) = self.words.get(*first) else { return String::new() };
        let has_all = |text: &usize| {
            among.contains(text)
                && others.iter().all(|&word| self.words.get(word).is_some_and(|hits| hits.contains_key(text)))
        };
        let mut lines: Vec<(&str, u64)> = hits
            .iter()
            .filter(|(text, _)| has_all(text))
            .map(|(&text, &count)| (self.names[text].as_str(), count))
            .collect();
        lines.sort_unstable();
        lines.iter().map(|(name, count)| format!("{count}\t{name}\n")).collect()
    }

    /// What `index top LEN` prints.
    #[must_use]
    pub fn top(&self, len: usize, among: &BTreeSet<usize>) -> String {
        let total = |hits: &BTreeMap<usize, u64>| -> u64 {
            hits.iter().filter(|(text, _)| among.contains(text)).map(|(_, count)| count).sum()
        };
        let mut all: Vec<(u64, &str)> = self
            .words
            .iter()
            .map(|(word, hits)| (total(hits), word.as_str()))
            .filter(|(count, _)| *count > 0)
            .collect();
        all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        all.iter().take(len).map(|(count, word)| format!("{count}\t{word}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_without_regard_to_case() {
        let text =
            |name: &str, content: &str| Text { path: "".into(), name: name.into(), content: content.into() };
        let counts = Counts::new(&[text("b", "Élan, élan! one"), text("a", "élan two")]);
        let all = BTreeSet::from([0, 1]);
        assert_eq!(counts.search(&["élan"], &all), "1\ta\n2\tb\n");
        assert_eq!(counts.search(&["élan", "one"], &all), "2\tb\n");
        assert_eq!(counts.search(&["élan"], &BTreeSet::from([1])), "1\ta\n");
        assert_eq!(counts.top(2, &all), "3\télan\n1\tone\n");
        assert_eq!(counts.search(&["none"], &all), "");
    }
}
