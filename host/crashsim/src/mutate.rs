//! [`mutation_run`]: leaves out each flush and each fence of a scenario in turn. Somebody must notice.
//!
//! A step that made no difference to what media may hold (nothing was pending) is *idle*: it costs time,
//! but its loss can't be seen. All others that no crash test notices are *survivors*: either the tests are
//! too weak or the step is superfluous.

use std::fmt;

use crate::harness::{Config, Failure, check_crashes};
use crate::media::Media;
use crate::memory::{Event, Mutation, SimMemory};
use crate::scenario::{Log, Scenario};

/// What a mutation run found.
#[derive(Clone, Debug, Default)]
pub struct Mutations {
    /// Left out, and noticed.
    pub caught: usize,
    /// Left out, and nobody noticed: which, and where it stands.
    pub survivors: Vec<(Mutation, String)>,
    /// Steps that did nothing in this run.
    pub idle: Vec<(Mutation, String)>,
}

impl fmt::Display for Mutations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} caught, {} survived, {} idle", self.caught, self.survivors.len(), self.idle.len())?;
        for (kind, list) in [("survived", &self.survivors), ("idle", &self.idle)] {
            for (mutation, site) in list {
                writeln!(f, "  {kind}: {mutation:?} in {site}")?;
            }
        }
        Ok(())
    }
}

/// Leaves out each flush and fence of the scenario's run in turn, and looks for a crash that shows it.
///
/// # Errors
/// The failure of the unchanged scenario.
pub fn mutation_run<S: Scenario>(scenario: &S, config: &Config) -> Result<Mutations, Failure> {
    check_crashes(scenario, config)?;
    let steps = steps(scenario);
    let mut found = Mutations::default();
    for (mutation, effective) in steps {
        if !effective {
            found.idle.push((mutation, site(scenario, mutation)));
        } else if check_crashes(scenario, &Config { mutation: Some(mutation), ..*config }).is_err() {
            found.caught += 1;
        } else {
            found.survivors.push((mutation, site(scenario, mutation)));
        }
    }
    Ok(found)
}

/// Each flush and fence of the run, and whether it made a difference.
fn steps<S: Scenario>(scenario: &S) -> Vec<(Mutation, bool)> {
    let memory = run(scenario, None);
    let (mut flushes, mut fences) = (0, 0);
    let mut media = Media::new(prepare(scenario).image());
    let mut steps = Vec::new();
    for event in memory.take_trace() {
        let effective = media.apply(&event);
        match event {
            Event::Flushed(_) => {
                steps.push((Mutation::DropFlush(flushes), effective));
                flushes += 1;
            }
            Event::Fenced => {
                steps.push((Mutation::DropFence(fences), effective));
                fences += 1;
            }
            Event::Stored(_) | Event::Marked(_) | Event::Settled(_) => {}
        }
    }
    steps
}

fn prepare<S: Scenario>(scenario: &S) -> SimMemory {
    let memory = SimMemory::zeroed(scenario.len_bytes());
    scenario.setup(&memory);
    memory
}

fn run<S: Scenario>(scenario: &S, mutation: Option<Mutation>) -> SimMemory {
    let prepared = prepare(scenario).image();
    let initial = scenario.recover(&SimMemory::of(prepared.clone())).expect("the unchanged scenario passed");
    let memory = SimMemory::of(prepared);
    memory.mutate(mutation);
    scenario.run(&memory, &mut Log::new(&memory, initial));
    memory
}

fn site<S: Scenario>(scenario: &S, mutation: Mutation) -> String {
    run(scenario, Some(mutation)).dropped_site().unwrap_or_else(|| "a step that this run didn't reach".into())
}
