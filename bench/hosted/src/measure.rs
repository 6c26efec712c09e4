//! Measuring side by side: contenders take turns, round by round, so that whatever else the machine does meets all of them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::report::{Contest, Percentile, Row, Unit};

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds, in each of which every contender runs once.
    pub(crate) rounds: usize,
    /// How long a contender runs in a round.
    pub(crate) round: Duration,
    pub(crate) warm: Warm,
}

/// What a contender does before each round that is not measured, where another one ran before it: what the others pushed out of the caches comes back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Warm {
    /// A quarter of the round.
    Quarter,
    /// So many operations.
    Operations(u64),
    /// Operations for so long; before figures of single operations too.
    For(Duration),
}

impl Effort {
    /// For operations of nanoseconds.
    pub(crate) const fn short(quick: bool) -> Self {
        if quick {
            Self { rounds: 15, round: Duration::from_micros(250), warm: Warm::Quarter }
        } else {
            Self { rounds: 101, round: Duration::from_micros(500), warm: Warm::Quarter }
        }
    }

    /// With so many operations before each round that the caches hold what they can.
    pub(crate) fn warmed(self, operations: u64) -> Self {
        Self { rounds: self.rounds.min(9), warm: Warm::Operations(operations), ..self }
    }
}

/// Somebody who can do the operation, any number of times.
pub(crate) struct Contender<'a> {
    name: String,
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
    counts: Vec<(String, f64)>,
}

impl<'a> Contender<'a> {
    /// `run` does the operation so many times and says how long that took.
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(u64) -> Duration + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run), counts: Vec::new() }
    }

    /// With exact figures for one operation: flushes, for instance.
    pub(crate) fn counting(mut self, counts: impl IntoIterator<Item = (String, f64)>) -> Self {
        self.counts = counts.into_iter().collect();
        self
    }
}

/// Which percentile a contest gives beside the median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tail {
    /// Of the rounds' averages: for operations too short to be timed one by one.
    OfRounds,
    /// Of so many operations, each timed alone.
    OfOperations(usize),
}

/// What one contender's turns gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Turns {
    pub(crate) name: String,
    /// A figure for each round.
    pub(crate) rounds: Vec<f64>,
    pub(crate) p99: f64,
    pub(crate) counts: Vec<(String, f64)>,
}

impl Turns {
    /// Of a single round.
    pub(crate) fn once(name: impl Into<String>, figure: f64) -> Self {
        Self { name: name.into(), rounds: vec![figure], p99: figure, counts: Vec::new() }
    }
}

/// Lets all run in turns. Ratios are to the contender named `reference`, round by round.
///
/// # Panics
/// Without contenders.
pub(crate) fn compete(
    title: impl Into<String>,
    reference: &str,
    effort: Effort,
    tail: Tail,
    contenders: Vec<Contender<'_>>,
) -> Contest {
    let percentile = match tail {
        Tail::OfRounds => Percentile::OfRounds,
        Tail::OfOperations(_) => Percentile::OfOperations,
    };
    judge(title, Unit::Nanoseconds, percentile, reference, &take_turns(effort, tail, contenders))
        .expect("there are contenders")
}

/// Lets all run in turns; nanoseconds.
pub(crate) fn take_turns(effort: Effort, tail: Tail, mut contenders: Vec<Contender<'_>>) -> Vec<Turns> {
    let times: Vec<u64> = contenders
        .iter_mut()
        .map(|contender| {
            warm_for(contender, effort);
            calibrate(contender, effort.round)
        })
        .collect();
    let mut rounds = vec![Vec::with_capacity(effort.rounds); contenders.len()];
    let len = contenders.len();
    // Nobody has to warm up again after itself.
    let mut last = len.checked_sub(1);
    for round in 0..effort.rounds {
        // Nobody always runs after the same one.
        for turn in 0..len {
            let who = (turn + round) % len;
            match effort.warm {
                _ if last == Some(who) => {}
                Warm::Quarter => _ = (contenders[who].run)((times[who] / 4).max(1)),
                Warm::Operations(number) => _ = (contenders[who].run)(number),
                Warm::For(_) => warm_for(&mut contenders[who], effort),
            }
            last = Some(who);
            let took = (contenders[who].run)(times[who]);
            rounds[who].push(took.as_nanos() as f64 / times[who] as f64);
        }
    }
    let finish = |(contender, rounds): (&mut Contender<'_>, Vec<f64>)| {
        let p99 = match tail {
            Tail::OfRounds => percentile(&rounds, 0.99),
            Tail::OfOperations(number) => {
                if len > 1 {
                    warm_for(contender, effort);
                }
                let ns: Vec<f64> = (0..number).map(|_| (contender.run)(1).as_nanos() as f64).collect();
                percentile(&ns, 0.99)
            }
        };
        Turns { name: contender.name.clone(), rounds, p99, counts: contender.counts.clone() }
    };
    contenders.iter_mut().zip(rounds).map(finish).collect()
}

/// Compares what turns gave, with the contender named `reference`, or with the first one where that is not among them.
///
/// # Errors
/// Nobody took part.
pub(crate) fn judge(
    title: impl Into<String>,
    unit: Unit,
    percentile: Percentile,
    reference: &str,
    turns: &[Turns],
) -> Result<Contest> {
    let reference = turns.iter().find(|turns| turns.name == reference).or(turns.first());
    let reference = reference.context("everybody failed")?;
    let rows = turns
        .iter()
        .map(|own| row(&own.name, &own.rounds, &reference.rounds, own.p99, own.counts.clone()))
        .collect();
    let contest = Contest {
        title: title.into(),
        unit,
        percentile,
        reference: reference.name.clone(),
        rows,
        goals: Vec::new(),
        failed: Vec::new(),
    };
    eprintln!("{}", crate::page::brief(&contest));
    Ok(contest)
}

/// A row, from what a contender and the reference took in each round.
pub(crate) fn row(
    name: &str,
    rounds: &[f64],
    reference: &[f64],
    p99: f64,
    counts: Vec<(String, f64)>,
) -> Row {
    let ratios: Vec<f64> = rounds.iter().zip(reference).map(|(own, other)| own / other).collect();
    Row {
        name: name.to_owned(),
        median: percentile(rounds, 0.5),
        p99,
        ratio: percentile(&ratios, 0.5),
        ratio_low: percentile(&ratios, 0.25),
        ratio_high: percentile(&ratios, 0.75),
        counts,
    }
}

/// Warms up, where that takes a time.
fn warm_for(contender: &mut Contender<'_>, effort: Effort) {
    if let Warm::For(time) = effort.warm {
        let start = Instant::now();
        while start.elapsed() < time {
            (contender.run)(64);
        }
    }
}

/// How many operations fill a round.
fn calibrate(contender: &mut Contender<'_>, round: Duration) -> u64 {
    let mut number = 1;
    loop {
        let took = (contender.run)(number);
        if took * 4 >= round {
            let scale = round.as_secs_f64() / took.as_secs_f64().max(1e-9);
            return ((number as f64 * scale) as u64).max(1);
        }
        number *= 2;
    }
}

/// The value below which the given share lies.
///
/// # Panics
/// Without values.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[at]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let effort = Effort { rounds: 9, round: Duration::from_micros(40), warm: Warm::Quarter };
        // The machine gets slower and slower; one needs three times what the other needs.
        let (mut slow, mut quick) = (0, 0);
        let took = |rounds: &mut u64, ns: u64, number: u64| {
            *rounds += 1;
            Duration::from_nanos(*rounds * ns * number)
        };
        let contest = compete(
            "a test",
            "quick",
            effort,
            Tail::OfRounds,
            vec![
                Contender::new("slow", |number| took(&mut slow, 3000, number)),
                Contender::new("quick", |number| {
                    quick += 1;
                    Duration::from_nanos(quick * 1000 * number)
                }),
            ],
        );
        let row = &contest.rows[0];
        assert!((2.0..4.5).contains(&row.ratio), "{row:?}");
        assert!(row.ratio_low <= row.ratio && row.ratio <= row.ratio_high);
        assert!((contest.rows[1].ratio - 1.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| percentile(&values, share)), [1.0, 3.0, 5.0, 5.0]);
    }
}
