//! Long runs: random work until the time is up or something is wrong. One number replays each piece.

use std::time::{Duration, Instant};

use twizzler_crashsim::{Config, Report, Rng, Scenario, check_crashes};

use crate::mmu::{Flaw, Plan};
use crate::session::Session;
use crate::store::Script;

/// What is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Scripts of store operations, cut off.
    Store,
    /// Sessions of commands, cut off.
    Sessions,
    /// Tree operations under the MMU model.
    Mmu,
}

impl Kind {
    /// All kinds, by the names that the command line has for them.
    pub const ALL: [(&'static str, Self); 3] =
        [("store", Self::Store), ("sessions", Self::Sessions), ("mmu", Self::Mmu)];

    /// The kind of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(other, _)| *other == name).map(|(_, kind)| kind)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Runs pieces of random work from `seed` on, at least one, until the time is up. Says what was done.
///
/// # Errors
/// What was found, and the command that replays it.
pub fn campaign(kind: Kind, seed: u64, time: Duration) -> Result<String, String> {
    let start = Instant::now();
    let mut done = Done::default();
    let mut piece = seed;
    loop {
        done.piece(kind, piece).map_err(|what| {
            let name = kind.name();
            format!("{what}\n  replay: cargo run --release -p twizzler-campaign --example campaign -- {name} {piece} 0")
        })?;
        piece = piece.wrapping_add(1);
        if start.elapsed() >= time {
            return Ok(done.summary(kind, seed, piece.wrapping_sub(seed), start.elapsed()));
        }
    }
}

#[derive(Default)]
struct Done {
    operations: usize,
    report: Report,
    shootdowns: usize,
}

/// Operations of one piece under the MMU model.
const MMU_OPERATIONS: u64 = 400;

impl Done {
    fn piece(&mut self, kind: Kind, seed: u64) -> Result<(), String> {
        let mut rng = Rng::new(seed);
        match kind {
            Kind::Store => {
                let len = 4 + rng.index(8);
                let script = Script::random(&mut rng, len);
                self.operations += script.ops.len();
                self.crash(&script, seed)
            }
            Kind::Sessions => {
                let len = 2 + rng.index(5);
                let session = Session::random(&mut rng, len);
                self.operations += session.programs.iter().map(Vec::len).sum::<usize>();
                self.crash(&session, seed)
            }
            Kind::Mmu => {
                let plan = Plan { seed, operations: MMU_OPERATIONS, flaw: Flaw::None, warm_one_in: 2 };
                self.operations += MMU_OPERATIONS as usize;
                let shootdowns = crate::mmu::run(plan).map_err(|violation| violation.to_string())?;
                self.shootdowns += shootdowns.len();
                Ok(())
            }
        }
    }

    fn crash<S: Scenario + std::fmt::Debug>(&mut self, scenario: &S, seed: u64) -> Result<(), String> {
        let config = Config { seed, ..Config::default() };
        let report =
            check_crashes(scenario, &config).map_err(|failure| format!("{scenario:?}: {failure}"))?;
        self.report.images += report.images;
        self.report.nested_images += report.nested_images;
        self.report.points += report.points;
        Ok(())
    }

    fn summary(&self, kind: Kind, seed: u64, pieces: u64, time: Duration) -> String {
        let Self { operations, report, shootdowns } = self;
        let what = match kind {
            Kind::Mmu => format!("{shootdowns} shootdowns"),
            Kind::Store | Kind::Sessions => {
                format!(
                    "{} points, {} images, {} of them in recovery",
                    report.points, report.images, report.nested_images
                )
            }
        };
        let name = kind.name();
        format!(
            "{name}: seeds {seed} to {}, {operations} operations, {what}, {:.1} s",
            seed.wrapping_add(pieces - 1),
            time.as_secs_f64()
        )
    }
}
