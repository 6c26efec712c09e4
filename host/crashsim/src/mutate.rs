//! [`mutation_run`]: leaves out flushes and fences of a scenario in turn. Somebody must notice.
//!
//! Steps are gathered by *site*: a place in the code with its callers. A site is *missed* when a crash shows that one of
//! its steps was left out. A step that made no difference to what media may hold (nothing was pending) is idle: it
//! costs time, but its loss can't be seen. A site that no scenario misses is superfluous, or the tests are too weak.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::harness::{Config, Failure, check_crashes};
use crate::media::Media;
use crate::memory::{Dropped, Event, SimMemory, Step};
use crate::scenario::{Log, Scenario};

/// Steps of one site that are tried before it counts as not missed.
const TRIES: usize = 6;

/// What mutation runs found, by site.
#[derive(Clone, Debug, Default)]
pub struct Mutations {
    /// A crash showed that a step was left out.
    pub missed: BTreeSet<String>,
    /// Left out in vain, at least once.
    pub not_missed: BTreeSet<String>,
    /// Steps that did nothing, at least once.
    pub idle: BTreeSet<String>,
}

impl Mutations {
    /// Adds what another scenario's run found.
    pub fn extend(&mut self, other: Self) {
        self.missed.extend(other.missed);
        self.not_missed.extend(other.not_missed);
        self.idle.extend(other.idle);
    }

    /// Sites that no scenario missed.
    #[must_use]
    pub fn never_missed(&self) -> BTreeSet<&str> {
        let others = self.not_missed.iter().chain(&self.idle);
        others.filter(|site| !self.missed.contains(*site)).map(String::as_str).collect()
    }
}

impl fmt::Display for Mutations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} sites missed, {} never", self.missed.len(), self.never_missed().len())?;
        self.never_missed().iter().try_for_each(|site| writeln!(f, "  never missed: {site}"))
    }
}

/// Leaves out flushes and fences of the scenario's run, site by site, and looks for a crash that shows it.
///
/// # Errors
/// The failure of the unchanged scenario.
pub fn mutation_run<S: Scenario>(scenario: &S, config: &Config) -> Result<Mutations, Failure> {
    check_crashes(scenario, config)?;
    let mut found = Mutations::default();
    for (site, steps) in sites(scenario) {
        let (effective, idle): (Vec<_>, Vec<_>) = steps.into_iter().partition(|(_, effective)| *effective);
        if !idle.is_empty() {
            found.idle.insert(site.clone());
        }
        let effective: Vec<Step> = effective.into_iter().map(|(step, _)| step).collect();
        let missed = |steps: &[Step]| {
            let dropped = Dropped::new(steps.iter().copied().collect());
            check_crashes(scenario, &Config { dropped, ..config.clone() }).is_err()
        };
        // One at a time: the last ones, which nothing makes good any more, and some of all; then all at once.
        let stride = effective.len().div_ceil(TRIES).max(1);
        let some = effective.iter().rev().take(TRIES).chain(effective.iter().step_by(stride));
        let mut some = some.map(std::slice::from_ref).chain(std::iter::once(effective.as_slice()));
        if some.any(missed) {
            found.missed.insert(site);
        } else if !effective.is_empty() {
            found.not_missed.insert(site);
        }
    }
    Ok(found)
}

/// Each flush and fence of the run, by site, and whether it made a difference.
fn sites<S: Scenario>(scenario: &S) -> BTreeMap<String, Vec<(Step, bool)>> {
    let memory = SimMemory::zeroed(scenario.len_bytes());
    scenario.setup(&memory);
    let prepared = memory.image();
    let initial = scenario.recover(&SimMemory::of(prepared.clone())).expect("the unchanged scenario passed");
    let memory = SimMemory::of(prepared.clone());
    memory.note_sites();
    scenario.run(&memory, &mut Log::new(&memory, initial));
    let mut media = Media::new(prepared);
    let effective = memory.take_trace().into_iter().filter_map(|event| {
        let effective = media.apply(&event);
        matches!(event, Event::Flushed(..) | Event::Fenced(_)).then_some(effective)
    });
    let mut sites = BTreeMap::<String, Vec<(Step, bool)>>::new();
    for ((step, site), effective) in memory.take_sites().into_iter().zip(effective.collect::<Vec<_>>()) {
        sites.entry(site).or_default().push((step, effective));
    }
    sites
}
