//! [`check_crashes`]: runs a scenario once, then recovers from every image that a power cut may have left.
//!
//! Images are looked at before each fence that makes something durable (all that was possible since the
//! fence before is still possible there), after each acknowledgement (when the most is promised), at the
//! end, and after each single step the one in which everything has arrived. Images that were seen under
//! the same promise are skipped. Recovery itself is crashed in the same way, one level deep.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::enumerate::{Choice, Effort};
use crate::media::Media;
use crate::memory::{Counts, Dropped, Event, SimMemory};
use crate::rng::Rng;
use crate::scenario::{Log, Scenario};

/// How thoroughly to look.
#[derive(Clone, Debug)]
pub struct Config {
    /// Seed of what is sampled.
    pub seed: u64,
    /// Of the run.
    pub effort: Effort,
    /// Of recoveries; None: recovery isn't crashed.
    pub nested: Option<Effort>,
    /// Of the images, one in so many has its recovery crashed as well. 1: all.
    pub nested_one_in: u64,
    /// Flushes and fences of the run that are left out.
    pub dropped: Dropped,
}

/// Environment variable that sets the seed.
pub const SEED_VARIABLE: &str = "TWIZZLER_SEED";

impl Default for Config {
    /// For tests: the seed is fixed unless the environment sets another.
    fn default() -> Self {
        Self {
            seed: seed_from_environment().unwrap_or(1),
            effort: Effort { exhaustive: 64, samples: 16, singles: 24 },
            nested: Some(Effort { exhaustive: 12, samples: 4, singles: 4 }),
            nested_one_in: 24,
            dropped: Dropped::default(),
        }
    }
}

impl Config {
    /// For long runs.
    #[must_use]
    pub fn thorough(seed: u64) -> Self {
        Self {
            seed,
            effort: Effort { exhaustive: 512, samples: 64, singles: 128 },
            nested: Some(Effort { exhaustive: 32, samples: 8, singles: 16 }),
            nested_one_in: 8,
            dropped: Dropped::default(),
        }
    }
}

/// The seed that [`SEED_VARIABLE`] asks for.
#[must_use]
pub fn seed_from_environment() -> Option<u64> {
    std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok())
}

/// What was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Steps of the run's trace.
    pub events: usize,
    /// Points at which images were enumerated.
    pub points: usize,
    /// Different images recovered from.
    pub images: usize,
    /// Of those, images of interrupted recoveries.
    pub nested_images: usize,
    /// Flushes and fences of the run.
    pub counts: Counts,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, points, images, nested_images, counts } = self;
        write!(f, "{events} steps, {} flushes, {} fences, {points} points: ", counts.flushes, counts.fences)?;
        write!(f, "{images} images, {nested_images} of them in recovery")
    }
}

/// A crash that does harm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What was wrong after recovery.
    pub what: String,
    /// Step of the trace before which the power was cut.
    pub event: usize,
    /// What had arrived.
    pub image: String,
    /// Where in the recovery the power was cut again.
    pub nested: Option<(usize, String)>,
    /// The seed.
    pub seed: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(f, "  power cut at step {} of the run; {}", self.event, self.image)?;
        if let Some((event, image)) = &self.nested {
            writeln!(f, "  and again at step {event} of the recovery; {image}")?;
        }
        write!(f, "  replay: {SEED_VARIABLE}={} and the same test or campaign", self.seed)
    }
}

impl std::error::Error for Failure {}

/// Runs the scenario and recovers from every image that a power cut may have left on the way.
///
/// # Errors
/// The first crash after which recovery failed, or found something else than was promised.
pub fn check_crashes<S: Scenario>(scenario: &S, config: &Config) -> Result<Report, Failure> {
    let memory = SimMemory::zeroed(scenario.len_bytes());
    scenario.setup(&memory);
    let prepared = memory.image();
    let search = Search { scenario };
    let initial = search.recover(&SimMemory::of(prepared.clone())).map_err(|what| Failure {
        what: format!("without a crash, after setup: {what}"),
        event: 0,
        image: "all arrived".into(),
        nested: None,
        seed: config.seed,
    })?;

    let memory = SimMemory::of(prepared.clone());
    memory.drop_steps(Dropped::clone(&config.dropped));
    let mut log = Log::new(&memory, initial);
    scenario.run(&memory, &mut log);
    let allowed = log.allowed;
    let counts = memory.counts();
    let trace = memory.take_trace();

    let mut report = Report { events: trace.len(), counts, ..Report::default() };
    let mut rng = Rng::new(config.seed);
    let walk = Walk { trace: &trace, effort: &config.effort };
    let mut outcome = Ok(());
    walk.images(Media::new(prepared), &mut rng, &mut |event, promise, media, choice, rng| {
        let nested = config.nested.filter(|_| rng.one_in(config.nested_one_in));
        report.images += 1;
        outcome = search.look(media, choice, &allowed[promise], nested.as_ref(), rng, &mut report).map_err(
            |(what, nested)| Failure {
                what,
                event,
                image: media.describe(choice),
                nested,
                seed: config.seed,
            },
        );
        outcome.is_ok()
    });
    report.points = walk.points();
    outcome.map(|()| report)
}

/// Steps of a trace, and the images to look at on the way.
struct Walk<'t> {
    trace: &'t [Event],
    effort: &'t Effort,
}

impl Walk<'_> {
    fn points(&self) -> usize {
        self.trace.iter().filter(|event| matches!(event, Event::Fenced(_) | Event::Marked(_))).count() + 1
    }

    /// Calls `visit` with each image until it says false: step, promise in force, media, choice.
    fn images(
        &self,
        mut media: Media,
        rng: &mut Rng,
        visit: &mut dyn FnMut(usize, usize, &Media, &Choice, &mut Rng) -> bool,
    ) {
        let mut seen = HashSet::new();
        let mut promise = 0;
        let mut go = |event, promise, media: &Media, choices: Vec<Choice>, rng: &mut Rng| {
            let mut fresh =
                choices.into_iter().filter(|choice| seen.insert((promise, media.identity(choice))));
            fresh.all(|choice| visit(event, promise, media, &choice, rng))
        };
        for (number, event) in self.trace.iter().enumerate() {
            if matches!(event, Event::Fenced(cpu) if media.fence_matters(*cpu)) {
                let choices = media.choices(self.effort, rng);
                if !go(number, promise, &media, choices, rng) {
                    return;
                }
            }
            media.apply(event);
            let choices = match event {
                Event::Marked(next) => {
                    promise = *next;
                    media.choices(self.effort, rng)
                }
                _ => vec![media.everything()],
            };
            if !go(number + 1, promise, &media, choices, rng) {
                return;
            }
        }
        let choices = media.choices(self.effort, rng);
        go(self.trace.len(), promise, &media, choices, rng);
    }
}

struct Search<'s, S> {
    scenario: &'s S,
}

type Nested = Option<(usize, String)>;

impl<S: Scenario> Search<'_, S> {
    /// Recovers from one image, and where asked for from crashes of that recovery.
    fn look(
        &self,
        media: &Media,
        choice: &Choice,
        allowed: &[S::State],
        nested: Option<&Effort>,
        rng: &mut Rng,
        report: &mut Report,
    ) -> Result<(), (String, Nested)> {
        let image = media.image(choice);
        let memory = SimMemory::of(image.clone());
        let found = self.recover(&memory).map_err(|what| (what, None))?;
        if !allowed.iter().any(|promised| self.scenario.keeps(promised, &found)) {
            return Err((format!("found {found:?}, promised one of {allowed:?}"), None));
        }
        let Some(effort) = nested else { return Ok(()) };
        let trace = memory.take_trace();
        let walk = Walk { trace: &trace, effort };
        let mut outcome = Ok(());
        walk.images(Media::new(image), rng, &mut |event, _, media, choice, _| {
            report.images += 1;
            report.nested_images += 1;
            let again = self.recover(&SimMemory::of(media.image(choice))).and_then(|again| {
                // The image decides: whether recovery was interrupted must not.
                if self.scenario.keeps(&found, &again) {
                    Ok(())
                } else {
                    Err(format!("found {again:?}, after {found:?} before"))
                }
            });
            outcome = again.map_err(|what| (what, Some((event, media.describe(choice)))));
            outcome.is_ok()
        });
        outcome
    }

    fn recover(&self, memory: &SimMemory) -> Result<S::State, String> {
        match catch_unwind(AssertUnwindSafe(|| self.scenario.recover(memory))) {
            Ok(result) => result,
            Err(panic) => Err(format!("recovery panicked: {}", panic_text(&*panic))),
        }
    }
}

/// What a caught panic said.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}
