//! What was measured, as it is kept in `docs/bench/hosted.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// All sections that were ever measured; each run replaces those that it measures.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) sections: BTreeMap<String, Section>,
}

/// One part of the measurements, from one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) machine: Machine,
    /// How it was measured, and with what settings: paragraphs for the page.
    pub(crate) notes: Vec<String>,
    pub(crate) contests: Vec<Contest>,
}

/// What it was measured on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    /// File system of the store's directory.
    pub(crate) disk: String,
    /// Load average of the last minute before and after: what else ran.
    pub(crate) load: (f64, f64),
    /// True for `--quick`: too short to be relied on.
    pub(crate) quick: bool,
}

/// Several that did the same thing, in turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contest {
    pub(crate) title: String,
    pub(crate) unit: Unit,
    pub(crate) percentile: Percentile,
    /// Whom ratios are to.
    pub(crate) reference: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) goals: Vec<Goal>,
    /// Who could not do it, and why.
    #[serde(default)]
    pub(crate) failed: Vec<String>,
}

/// What the numbers count. Of times less is better, of rates more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// For one operation.
    Nanoseconds,
    /// Operations.
    PerSecond,
    /// For one entry.
    Bytes,
    /// For one operation.
    Milliseconds,
}

/// What a contest's percentile is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Percentile {
    /// Averages of rounds.
    OfRounds,
    /// Operations, timed one by one.
    OfOperations,
}

/// One contender's figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    /// To the reference: median of the rounds' ratios, and between what half of them lie.
    pub(crate) ratio: f64,
    pub(crate) ratio_low: f64,
    pub(crate) ratio_high: f64,
    /// Exact figures for one operation.
    pub(crate) counts: Vec<(String, f64)>,
}

/// A target, and what was reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) at_most: f64,
}

impl Goal {
    pub(crate) fn is_met(&self) -> bool {
        self.measured <= self.at_most
    }
}

impl Contest {
    /// The row of that name.
    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// With a target: `what` is at most `at_most`.
    pub(crate) fn aim(&mut self, what: impl Into<String>, measured: f64, at_most: f64) {
        self.goals.push(Goal { what: what.into(), measured, at_most });
    }
}

impl Report {
    /// What was written before; empty where nothing was.
    ///
    /// # Errors
    /// The file is not a report.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                format!("{} is not what this program writes: delete it and measure anew", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        }
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
    }
}
