//! Power cuts at any moment, on a disk that loses and tears what was not synced. The backend is driven as the programming model drives it.

mod driver;
mod model;
mod queue;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use driver::{Do, FAR, State, expect, found, inputs, run, run_alone, spec};
use model::cuts::{self, options, place_for_images};
use model::{Choice, Event, Fail, Recorder, Rng};
use twizzler::{Backend, Error};
use twizzler_abi::object::Metadata;

/// A script that was run on a recorded disk.
struct History {
    events: Vec<Event>,
    /// States after each transaction.
    states: Vec<State>,
}

fn record(before: &[Vec<Do>], script: &[Vec<Do>]) -> History {
    let keep = place_for_images();
    let path = keep.path().join("store");
    let mut versions = BTreeMap::new();
    let mut state = State::new();
    let mut number = 0;
    {
        let backend = options().observer(Arc::new(Recorder::new(&path))).create_backend(&path).expect("new");
        for what in before {
            number += 1;
            run(&backend, number, what, &mut versions).expect("room");
            expect(&mut state, what);
        }
    }
    let recorder = Arc::new(Recorder::new(&path));
    let mut states = vec![state.clone()];
    let backend = options().observer(recorder.clone()).open_backend(&path).expect("closed in order");
    for (n, what) in script.iter().enumerate() {
        recorder.mark(2 * n as u64);
        number += 1;
        let done = run_alone(&backend, what);
        done.unwrap_or_else(|| run(&backend, number, what, &mut versions)).expect("room");
        expect(&mut state, what);
        states.push(state.clone());
        recorder.mark(2 * n as u64 + 1);
    }
    drop(backend);
    recorder.mark(u64::MAX);
    History { events: recorder.events(), states }
}

/// Cuts the power at every event and checks what recovery makes of it; gives the first failure.
fn check(history: &History, nested: bool, seed: u64) -> Result<u64, String> {
    cuts::check(&history.events, nested, seed, &|path, marks, what| {
        let steps = marks.iter().filter(|&&mark| mark != u64::MAX);
        let (begun, acked): (Vec<u64>, Vec<u64>) = steps.partition(|&mark| mark % 2 == 0);
        look(path, &history.states[acked.len()..=begun.len()], what)
    })
}

/// Recovers the image and compares.
fn look(path: &Path, allowed: &[State], what: &str) -> Result<(), String> {
    let recorder = Arc::new(Recorder::new(path));
    let backend =
        options().observer(recorder).open_backend(path).map_err(|error| format!("{what}: {error}"))?;
    let fits = |state: &State| found(&backend, state) == *state;
    if backend.replayed().damaged > 0 {
        return Err(format!("{what}: damaged records"));
    }
    if allowed.iter().any(fits) {
        return Ok(());
    }
    let (now, last) = (found(&backend, allowed.last().expect("one")), allowed);
    Err(format!("{what}: found {now:?}, expected one of {last:?}"))
}

fn script() -> Vec<Vec<Do>> {
    vec![
        vec![Do::Set(0, 1, 11), Do::Set(1, 1, 12)],
        vec![Do::Create(2), Do::Set(2, 3, 33), Do::Set(0, 1, 14)],
        vec![Do::Set(2, 3, 34), Do::Set(2, 9, 35), Do::Delete(1)],
        vec![Do::Checkpoint],
        vec![Do::Set(0, 5, 51), Do::Create(3), Do::Fresh(3, 8, 80)],
        vec![Do::Fresh(0, 20, 200)],
        vec![Do::Delete(2), Do::Set(0, 1, 15)],
        vec![Do::Set(0, 20, 201), Do::Set(3, 8, 81)],
    ]
}

/// Objects that are old, or have just been made, and are then written to in place or become large.
fn growing() -> Vec<Vec<Do>> {
    vec![
        vec![Do::Promote(0)],
        vec![Do::Set(0, 1, 11), Do::Set(0, FAR, 12)],
        vec![Do::Create(2), Do::Set(2, 3, 33)],
        vec![Do::Fresh(2, 20, 200)],
        vec![Do::Create(3), Do::Set(3, 3, 43)],
        vec![Do::Promote(3)],
        vec![Do::Set(3, FAR, 44), Do::Set(1, 1, 15)],
    ]
}

fn before() -> Vec<Vec<Do>> {
    vec![vec![Do::Create(0), Do::Set(0, 1, 1)], vec![Do::Create(1), Do::Set(1, 1, 2)]]
}

#[test]
fn a_power_cut_at_any_moment_leaves_whole_transactions() {
    let history = record(&before(), &script());
    let images = check(&history, false, 0x1234_5677).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{images} images of {} events", history.events.len());
}

#[test]
fn objects_that_have_just_been_made_or_grown_lose_nothing() {
    let history = record(&before(), &growing());
    let images = check(&history, false, 0x1234_5679).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{images} images of {} events", history.events.len());
}

#[test]
fn recovery_may_be_cut_off_twice() {
    let history = record(&before(), &script()[..3]);
    let images = check(&history, true, 0x7654_3211).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{images} images of {} events", history.events.len());
}

#[test]
fn a_log_that_was_made_anew_is_there_after_a_power_cut() {
    let keep = place_for_images();
    let path = keep.path().join("store");
    let mut versions = BTreeMap::new();
    let backend = options().observer(Arc::new(Recorder::new(&path))).create_backend(&path).expect("new");
    run(&backend, 1, &before()[0], &mut versions).expect("room");
    drop(backend);
    let log = File::options().write(true).open(path.join("log")).expect("there");
    log.write_all_at(&[0; 8192], 0).expect("its heads are gone");
    let recorder = Arc::new(Recorder::new(&path));
    let backend = options().salvage().observer(recorder.clone()).open_backend(&path).expect("saved");
    assert!(backend.replayed().cut);
    let script = [before()[0].clone(), vec![Do::Set(0, 1, 11)]];
    run(&backend, 2, &script[1], &mut versions).expect("room");
    let events = recorder.events();
    let mut state = State::new();
    script.iter().for_each(|what| expect(&mut state, what));
    let image = place_for_images();
    model::cut(&events, events.len(), false, Choice::Least, &mut Rng(1), image.path());
    look(image.path(), &[state], "what was committed to it").unwrap_or_else(|failure| panic!("{failure}"));
}

/// Runs the script with steps of that kind failing after a while; what was acknowledged must be there when the store is opened again.
fn with_failures(script: Vec<Vec<Do>>, what: Fail, after: usize) -> Option<Error> {
    let keep = place_for_images();
    let path = keep.path().join("store");
    let recorder = Arc::new(Recorder::new(&path));
    let backend = options().observer(recorder.clone()).create_backend(&path).expect("new");
    let (mut versions, mut state, mut failed) = (BTreeMap::new(), State::new(), None);
    let mut unsure = State::new();
    for (number, step) in before().into_iter().chain(script).enumerate() {
        if number == 2 {
            recorder.fail(after, what);
        }
        unsure = state.clone();
        expect(&mut unsure, &step);
        let done = run_alone(&backend, &step);
        match done.unwrap_or_else(|| run(&backend, number as u64, &step, &mut versions)) {
            Ok(()) => state = unsure.clone(),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let poisoned = backend.is_poisoned();
    if failed == Some(Error::ReadOnly) {
        assert!(poisoned);
        assert_eq!(backend.create(&spec(7)), Err(Error::ReadOnly), "nothing more is written");
    }
    drop(backend);
    look(&path, &[state, unsure], &format!("{what:?} fails after {after}"))
        .unwrap_or_else(|failure| panic!("{failure}"));
    failed
}

#[test]
fn a_failed_sync_poisons_the_store_and_loses_nothing() {
    for after in 0..6 {
        let found = with_failures(script(), Fail::Write, after);
        assert_eq!(found, Some(Error::ReadOnly), "the log's write fails");
    }
    assert_eq!(
        with_failures(script(), Fail::SyncObject, 0),
        Some(Error::ReadOnly),
        "a checkpoint's sync fails"
    );
}

#[test]
fn a_failed_sync_of_what_is_no_record_poisons_the_store_as_well() {
    for what in [Fail::SyncObject, Fail::SyncDirectory("objects")] {
        // The disk may have lost what was committed to that object before, or another one's name; the next sync would succeed.
        assert_eq!(with_failures(growing(), what, 0), Some(Error::ReadOnly), "it became large: {what:?}");
    }
    let fresh = vec![vec![Do::Create(3), Do::Fresh(3, 8, 80)]];
    assert_eq!(with_failures(fresh, Fail::SyncDirectory("new"), 0), Some(Error::ReadOnly));
}

#[test]
fn a_failed_sync_of_the_name_of_what_was_made_of_bytes_poisons_the_store() {
    let keep = place_for_images();
    let path = keep.path().join("store");
    let recorder = Arc::new(Recorder::new(&path));
    let backend = options().observer(recorder.clone()).create_backend(&path).expect("new");
    let metadata = Metadata::new(&inputs(3), 0);
    backend.make_raw(&metadata).expect("room");
    recorder.fail(0, Fail::SyncDirectory("objects"));
    assert_eq!(backend.publish_raw(metadata.id), Err(Error::ReadOnly));
    assert!(backend.is_poisoned());
}

#[test]
fn a_full_disk_is_an_error_before_anything_is_committed() {
    for after in 0..6 {
        assert_eq!(with_failures(script(), Fail::Allocate, after), Some(Error::OutOfNvm));
    }
}

/// Something that the store does for a reason, left out or done at the wrong time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutation {
    LogWriteNotAwaited,
    AppliedBeforeTheLog,
    HeaderNotSynced,
    HeaderBeforeTheObjects,
    ObjectsNotSynced,
    FreshNotSynced,
    NamesNotSynced,
    FreshNamesNotSynced,
}

/// The same history, had the store done that.
fn mutated(events: &[Event], mutation: Mutation) -> Vec<Event> {
    let first = events.iter().position(|event| matches!(event, Event::Mark(_))).expect("marked");
    let mut out = events[..first].to_vec();
    // Held back until something that was to come after it.
    let mut late: Vec<Event> = Vec::new();
    for event in &events[first..] {
        let is_path =
            |wanted: &str| matches!(event, Event::SyncFile { path, .. } if path.starts_with(wanted));
        let is_directory =
            |wanted: &str| matches!(event, Event::SyncDirectory { directory } if directory == wanted);
        match mutation {
            Mutation::LogWriteNotAwaited => {
                if let Event::ChangedDurably { file, sectors } = event {
                    out.push(Event::Changed { file: *file, sectors: sectors.clone(), mapped: false });
                    continue;
                }
            }
            Mutation::AppliedBeforeTheLog => {
                if matches!(event, Event::ChangedDurably { .. }) {
                    late.push(event.clone());
                    continue;
                }
                if !matches!(event, Event::Changed { mapped: true, .. }) || matches!(event, Event::Mark(_)) {
                    out.append(&mut late);
                }
            }
            Mutation::HeaderBeforeTheObjects => {
                if is_path("objects/") {
                    late.push(event.clone());
                    continue;
                }
                if is_path("log") {
                    out.push(event.clone());
                    out.append(&mut late);
                    continue;
                }
            }
            Mutation::HeaderNotSynced if is_path("log") => continue,
            Mutation::ObjectsNotSynced if is_path("objects/") => continue,
            Mutation::FreshNotSynced if is_path("new/") => continue,
            Mutation::NamesNotSynced if is_directory("objects") => continue,
            Mutation::FreshNamesNotSynced if is_directory("new") => continue,
            _ => {}
        }
        out.push(event.clone());
    }
    out.append(&mut late);
    out
}

#[test]
fn what_is_left_out_is_missed() {
    let History { events, states } = record(&before(), &script());
    for mutation in [
        Mutation::LogWriteNotAwaited,
        Mutation::AppliedBeforeTheLog,
        Mutation::HeaderNotSynced,
        Mutation::HeaderBeforeTheObjects,
        Mutation::ObjectsNotSynced,
        Mutation::FreshNotSynced,
        Mutation::NamesNotSynced,
        Mutation::FreshNamesNotSynced,
    ] {
        let wrong = History { events: mutated(&events, mutation), states: states.clone() };
        let missed = check(&wrong, false, 0x1234_5677);
        println!("{mutation:?}: {missed:?}");
        assert!(missed.is_err(), "nobody misses {mutation:?}");
    }
}
