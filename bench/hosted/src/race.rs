//! Races: many threads work on one store for a time, and what counts is how much they get done.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::measure::{Turns, judge, percentile};
use crate::report::{Contest, Percentile, Unit};

/// What threads have done.
pub(crate) struct Laps {
    /// How long each operation took.
    pub(crate) ns: Vec<f64>,
    /// From the first start to the last end.
    pub(crate) took: Duration,
}

/// Somebody whose threads work for so long.
pub(crate) struct Racer<'a> {
    name: String,
    run: Box<dyn FnMut(Duration) -> Result<Laps> + 'a>,
}

impl<'a> Racer<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(Duration) -> Result<Laps> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// How long to race.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// Rounds, in each of which every racer runs once.
    pub(crate) rounds: usize,
    /// How long each runs in a round.
    pub(crate) time: Duration,
    /// How long each runs before that, in each round, which is not measured.
    pub(crate) warm: Duration,
}

impl Course {
    pub(crate) const fn of(quick: bool) -> Self {
        if quick {
            Self { rounds: 1, time: Duration::from_millis(50), warm: Duration::ZERO }
        } else {
            Self { rounds: 9, time: Duration::from_millis(120), warm: Duration::ZERO }
        }
    }
}

/// Lets all run in turns: operations a second, and the 99th percentile of their times in microseconds.
pub(crate) fn race(
    title: impl Into<String>,
    reference: &str,
    course: Course,
    racers: Vec<Racer<'_>>,
) -> Result<Contest> {
    let (turns, failed) = take_laps(course, racers);
    let contest = judge(title, Unit::PerSecond, Percentile::OfOperations, reference, &turns);
    if !failed.is_empty() {
        eprintln!("failed: {}", failed.join("; "));
    }
    Ok(Contest { failed, ..contest? })
}

/// Lets all run in turns; operations a second, and who could not do it, and why.
pub(crate) fn take_laps(course: Course, mut racers: Vec<Racer<'_>>) -> (Vec<Turns>, Vec<String>) {
    let len = racers.len();
    let mut rates = vec![Vec::new(); len];
    let mut times = vec![Vec::new(); len];
    let mut failed: Vec<Option<String>> = vec![None; len];
    let mut last = None;
    for round in 0..course.rounds {
        for turn in 0..len {
            let who = (turn + round) % len;
            if failed[who].is_some() {
                continue;
            }
            let run = &mut racers[who].run;
            let is_warm = course.warm.is_zero() || last == Some(who);
            last = Some(who);
            let warmed = if is_warm { Ok(()) } else { run(course.warm).map(|_| ()) };
            let laps = match warmed.and_then(|()| run(course.time)) {
                Ok(laps) => laps,
                Err(error) => {
                    failed[who] = Some(format!("{}: {error:#}", racers[who].name));
                    continue;
                }
            };
            rates[who].push(laps.ns.len() as f64 / laps.took.as_secs_f64());
            times[who].extend(laps.ns);
        }
    }
    let turns = racers
        .iter()
        .zip(rates)
        .zip(&times)
        .zip(&failed)
        .filter(|(_, failed)| failed.is_none())
        .map(|(((racer, rounds), times), _)| Turns {
            name: racer.name.clone(),
            rounds,
            p99: percentile(times, 0.99) / 1e3,
            counts: Vec::new(),
        })
        .collect();
    (turns, failed.into_iter().flatten().collect())
}

/// Runs `work` in so many threads, again and again until the time is over; each is given the number of its thread and of the repetition.
/// `begin` prepares a thread.
pub(crate) fn threads<S>(
    number: usize,
    time: Duration,
    begin: impl Fn() -> Result<S> + Sync,
    work: impl Fn(&mut S, usize, u64) -> Result<()> + Sync,
) -> Result<Laps> {
    let start = Barrier::new(number);
    let one = |thread: usize| -> Result<(Vec<f64>, Instant, Instant)> {
        let ready = begin();
        start.wait();
        let mut session = ready?;
        let began = Instant::now();
        let (mut ns, mut before) = (Vec::new(), began);
        while before - began < time {
            work(&mut session, thread, ns.len() as u64)?;
            let now = Instant::now();
            ns.push((now - before).as_nanos() as f64);
            before = now;
        }
        Ok((ns, began, before))
    };
    std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..number).map(|thread| scope.spawn(move || one(thread))).collect();
        let mut laps = Vec::new();
        let mut span: Option<(Instant, Instant)> = None;
        for thread in threads {
            let (ns, began, ended) = thread.join().expect("no thread panics")?;
            laps.extend(ns);
            span = Some(span.map_or((began, ended), |(first, last)| (first.min(began), last.max(ended))));
        }
        let took = span.map_or(Duration::ZERO, |(first, last)| last - first);
        Ok(Laps { ns: laps, took })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_work_and_every_operation_is_timed() {
        let laps = threads(
            3,
            Duration::from_millis(5),
            || Ok(0),
            |count, _, i| {
                assert_eq!(*count, i);
                *count += 1;
                Ok(())
            },
        );
        let laps = laps.expect("nothing fails");
        assert!(laps.ns.len() >= 3 && laps.took >= Duration::from_millis(5));
        assert!(
            threads(
                2,
                Duration::from_millis(5),
                || Ok(()),
                |(), thread, _| {
                    anyhow::ensure!(thread == 0, "thread 1 fails");
                    Ok(())
                }
            )
            .is_err()
        );
    }
}
