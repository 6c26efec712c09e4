//! The main job after a reboot: a search in the index as it lies in NVM.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::{Twizzler, figures, touched};
use crate::console::Console;
use crate::corpus::{self, Text};
use crate::nvm::Nvm;
use crate::transfer::{self, Put};
use twz::size::Bytes;

/// A search, and what it cost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Search {
    /// Text in the index.
    pub(super) text_bytes: u64,
    /// Texts.
    pub(super) texts: u64,
    /// The index.
    pub(super) index_bytes: u64,
    /// The words searched for.
    pub(super) words: String,
    /// Lines of the answer.
    pub(super) answers: u64,
    /// From the command to the answer, the first search after a boot, the program's start included: the median of several boots.
    pub(super) first_ms: f64,
    /// The same, further searches, best of several.
    pub(super) again_ms: f64,
    /// Guest instructions of the first search.
    pub(super) instructions: f64,
    /// Page faults of the first search.
    pub(super) faults: u64,
    /// Bytes of NVM touched, in whole pages.
    pub(super) touched_bytes: u64,
}

const PATIENCE: Duration = Duration::from_secs(300);
/// Boots whose first searches are timed.
const BOOTS: usize = 9;
/// Texts that have the word whose search is to show what the size of the index costs.
const SAME_ANSWERS: std::ops::RangeInclusive<usize> = 5..=40;

/// Searches in indexes of two sizes. One of the words is in the same texts of both.
pub(super) fn searches(twizzler: &Twizzler) -> Result<Vec<Search>> {
    let (small, large) = (corpus::texts(Bytes(2 << 20))?, corpus::texts(Bytes(20 << 20))?);
    let same =
        word_of_same_texts(&small, &large).context("no word is in the same few texts of both indexes")?;
    let mut all = searches_in(twizzler, &small, &same)?;
    all.extend(searches_in(twizzler, &large, &same)?);
    Ok(all)
}

/// The longer words of a text that are as they are indexed.
fn plain_words(text: &Text) -> HashSet<&str> {
    let is_plain = |word: &&str| word.len() >= 6 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    words_of(&text.content).filter(is_plain).collect()
}

fn words_of(content: &str) -> impl Iterator<Item = &str> {
    content.split(|c: char| !c.is_alphanumeric())
}

/// A word that some of the texts of `small` have, and none of those that `large` has after them.
fn word_of_same_texts(small: &[Text], large: &[Text]) -> Option<String> {
    let mut texts_with: BTreeMap<&str, usize> = BTreeMap::new();
    for text in small {
        for word in plain_words(text) {
            *texts_with.entry(word).or_default() += 1;
        }
    }
    texts_with.retain(|_, count| SAME_ANSWERS.contains(count));
    for text in &large[small.len()..] {
        let lowered = text.content.to_lowercase();
        let others: HashSet<&str> = words_of(&lowered).collect();
        texts_with.retain(|word, _| !others.contains(word));
    }
    texts_with.into_keys().next().map(str::to_owned)
}

fn searches_in(twizzler: &Twizzler, texts: &[Text], same: &str) -> Result<Vec<Search>> {
    let path = twizzler.folder.join("search.nvm");
    let _ = fs::remove_file(&path);
    let nvm = Nvm::open(&path, Some(Bytes(Bytes::GIB)))?;
    let puts: Vec<Put> =
        texts.iter().map(|text| Put { file: text.path.clone(), name: text.name.clone() }).collect();
    transfer::put(&nvm, &puts)?;
    let names: Vec<&str> = texts.iter().map(|text| text.name.as_str()).collect();
    let mut script: String =
        names.chunks(100).map(|group| format!("index add {}\n", group.join(" "))).collect();
    script += "index stat\n";
    let archive = twizzler.archive(Some(&script))?;
    let (output, _) = figures::run(&twizzler.machine(&archive, &nvm))?;
    let mut found = Vec::new();
    for words in ["license", "copyright license warranty", same, "nosuchwordanywhere"] {
        let mut search = search(twizzler, &nvm, words)?;
        search.text_bytes = stat(&output, "text_bytes")?;
        search.texts = stat(&output, "documents")?;
        search.index_bytes = stat(&output, "index_bytes")?;
        found.push(search);
    }
    drop(nvm);
    fs::remove_file(path)?;
    Ok(found)
}

/// One number of `index stat`.
fn stat(output: &str, name: &str) -> Result<u64> {
    let line = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    line.and_then(|number| number.trim().parse().ok()).with_context(|| format!("index stat tells no {name}"))
}

fn search(twizzler: &Twizzler, nvm: &Nvm, words: &str) -> Result<Search> {
    let script = format!("time index search {words}\n").repeat(6);
    let archive = twizzler.archive(Some(&script))?;
    let machine = twizzler.machine(&archive, nvm);
    let (mut firsts, mut again_ns, mut faults, mut answers) = (Vec::new(), f64::INFINITY, 0, 0);
    for _ in 0..BOOTS {
        let (output, errors) = figures::run(&machine)?;
        let times: Vec<(f64, u64)> = errors.lines().filter_map(time).collect();
        let (first_ns, of_first) = *times.first().context("`time` told nothing")?;
        firsts.push(first_ns);
        again_ns = times[1..].iter().map(|(ns, _)| *ns).fold(again_ns, f64::min);
        (faults, answers) = (of_first, output.lines().count() as u64 / 6);
    }
    firsts.sort_by(f64::total_cmp);
    let (_, errors) = figures::run(&figures::counting(&machine))?;
    let (instructions, _) = errors.lines().find_map(time).context("`time` told nothing")?;
    Ok(Search {
        text_bytes: 0,
        texts: 0,
        index_bytes: 0,
        words: words.to_owned(),
        answers,
        first_ms: firsts[BOOTS / 2] / 1e6,
        again_ms: again_ns / 1e6,
        instructions,
        faults,
        touched_bytes: most_touched_bytes(twizzler, nvm, words)?,
    })
}

/// The line of `time`: nanoseconds and faults.
fn time(line: &str) -> Option<(f64, u64)> {
    let mut words = line.strip_prefix("time: ")?.split_whitespace();
    let ns = words.next()?.parse().ok()?;
    let faults = words.nth(1)?.parse().ok()?;
    Some((ns, faults))
}

/// The most of several measurements: they can only miss pages.
fn most_touched_bytes(twizzler: &Twizzler, nvm: &Nvm, words: &str) -> Result<u64> {
    let mut most = 0;
    for _ in 0..3 {
        most = most.max(touched_bytes(twizzler, nvm, words)?);
    }
    Ok(most)
}

/// Searches twice, the second time with the accessed bits cleared just before.
fn touched_bytes(twizzler: &Twizzler, nvm: &Nvm, words: &str) -> Result<u64> {
    // Commands that touch no NVM leave time to stop QEMU.
    let pause = "echo .\n".repeat(500);
    let script =
        format!("index search {words}\necho @before\n{pause}index search {words}\necho @after\n{pause}");
    let archive = twizzler.archive(Some(&script))?;
    let console = Console::default();
    let mut running = twizzler.machine(&archive, nvm).start(console.sink(), Console::default().sink())?;
    let pid = Pid::from_raw(running.process().cast_signed()).context("QEMU has a process ID")?;
    let mut wait = |wanted: &str| -> Result<()> {
        while !console.contains(wanted) {
            ensure!(
                running.is_running() && running.age() < PATIENCE,
                "the search does not end: {}",
                console.text()
            );
            std::thread::sleep(Duration::from_micros(100));
        }
        kill_process(pid, Signal::STOP).context("can't stop QEMU")
    };
    wait("@before\n")?;
    touched::forget(pid.as_raw_nonzero().get().cast_unsigned())?;
    kill_process(pid, Signal::CONT).context("can't continue QEMU")?;
    wait("@after\n")?;
    let bytes = touched::bytes(pid.as_raw_nonzero().get().cast_unsigned(), nvm.path())?;
    running.cut_power();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_of_time_are_read() {
        let line = "time: 30401714 ns, 166 faults, 147 filled, 56 calls, 4 switches";
        assert_eq!(super::time(line), Some((30_401_714.0, 166)));
        assert_eq!(super::time("index: added"), None);
    }
}
