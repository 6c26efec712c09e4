//! Many records that wait for the disk, and the power is cut: threads change, make and delete objects on each other's unfinished
//! changes, and what is left is always as if one transaction had come after the other, up to some point.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::model::cuts::{self, options, place_for_images};
use super::model::{Event, Fail, Recorder};
use twizzler::{Error, Guard, HostedBackend, InvPtr, Object, Observer, Reader, Step, Store, Stored, Tx};

/// One of two objects that say what has happened.
#[derive(Stored)]
#[stored(name = "test.queue", version = 1)]
#[repr(C)]
struct Root {
    /// Transactions so far that changed this object.
    count: u64,
    /// What each of them was, from 1 on.
    kinds: [u64; 63],
    /// Number of the transaction that made it.
    guest: InvPtr<u64>,
}

const ROOTS: [[u8; 16]; 2] = [*b"queue's first 1\0", *b"queue's second 2"];
const ONE: u64 = 1;
const BOTH: u64 = 2;
/// Makes the guest, or deletes it.
const GUEST: u64 = 3;
/// As [`ONE`], and allocates so much that it is written in place.
const LARGE: u64 = 4;

/// Lets the log's writes wait until so many transactions have seen each other's changes.
#[derive(Debug)]
struct Gate {
    recorder: Recorder,
    waits: Mutex<bool>,
    changed: Condvar,
}

impl Observer for Gate {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        if matches!(step, Step::WriteDurably(..)) {
            let waits = self.waits.lock().expect("no panic");
            let long = Duration::from_secs(10);
            drop(self.changed.wait_timeout_while(waits, long, |waits| *waits).expect("no panic"));
        }
        self.recorder.before(step)
    }
}

impl Gate {
    fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self { recorder: Recorder::new(path), waits: Mutex::new(false), changed: Condvar::new() })
    }

    fn hold(&self, waits: bool) {
        *self.waits.lock().expect("no panic") = waits;
        self.changed.notify_all();
    }
}

type G<'g> = Guard<'g, HostedBackend>;

fn roots<'g>(guard: &'g G<'_>) -> Result<[Object<'g, Root>; 2], Error> {
    Ok([guard.well_known(ROOTS[0])?, guard.well_known(ROOTS[1])?])
}

/// A transaction; gives its number.
fn perform<'g>(tx: &mut Tx<'g, HostedBackend>, guard: &'g G<'_>, kind: u64) -> Result<u64, Error> {
    let roots = roots(guard)?.map(Object::base);
    let mut number = 0;
    for (which, root) in roots.into_iter().enumerate() {
        if which == 0 || kind == BOTH {
            tx.lock(root.object())?;
            let count = tx.get(root.at(Root::count)) + 1;
            tx.set(root.at(Root::kinds).index(count as usize % 63).ok_or(Error::OutOfRange)?, kind)?;
            tx.set(root.at(Root::count), count)?;
            number = if which == 0 { count } else { number };
        }
    }
    let place = roots[0].at(Root::guest);
    match kind {
        GUEST => match tx.follow(place)? {
            Some(guest) => {
                tx.delete(guard.id_of(guest.object()))?;
                tx.link(place, None)?;
            }
            None => {
                let guest = tx.create::<u64>()?.base();
                tx.set(guest, number)?;
                tx.link(place, Some(guest))?;
            }
        },
        LARGE => {
            let large = tx.alloc_span::<u64>(place.object(), 48 * 1024)?;
            tx.free_span(large)?;
        }
        _ => {}
    }
    Ok(number)
}

/// How many transactions there are, if what is there can have come from so many, one after the other.
fn found(store: &Store) -> Result<u64, String> {
    let guard = store.enter();
    let say = |error: Error| error.to_string();
    let [first, second] = roots(&guard).map_err(say)?.map(Object::base);
    let [counts, both] = [first, second].map(|root| guard.get(root.at(Root::count)));
    let kinds = guard.get(first.at(Root::kinds));
    let kinds = &kinds[1..=counts as usize];
    let number_of = |wanted| kinds.iter().filter(|&&kind| kind == wanted).count() as u64;
    if kinds.contains(&0) || number_of(BOTH) != both {
        return Err(format!("{kinds:?} with {both} in both"));
    }
    let last = kinds.iter().rposition(|&kind| kind == GUEST).map(|at| at as u64 + 1);
    let wanted = last.filter(|_| number_of(GUEST) % 2 == 1);
    let guest = guard.follow(first.at(Root::guest)).map_err(say)?.map(|guest| guard.get(guest));
    if guest != wanted {
        return Err(format!("guest {guest:?}, but {kinds:?}"));
    }
    store.heap_usage(first.object()).map_err(say)?;
    Ok(counts)
}

fn look(path: &Path, least: u64, what: &str) -> Result<(), String> {
    let store = options().observer(Arc::new(Recorder::new(path)));
    let store = store.open(path).map_err(|error| format!("{what}: {error}"))?;
    if store.backend().replayed().damaged > 0 {
        return Err(format!("{what}: damaged records"));
    }
    match found(&store).map_err(|error| format!("{what}: {error}"))? {
        count if count >= least => Ok(()),
        count => Err(format!("{what}: {count} of {least} acknowledged transactions")),
    }
}

/// What threads do, each so often.
const KINDS: [u64; 6] = [ONE, BOTH, ONE, GUEST, BOTH, LARGE];
const ROUNDS: usize = 4;

/// Lets threads loose; each tells the recorder the number of each transaction that it was told is durable. The log's first writes wait until
/// all have gone as far as they can. Gives errors.
fn let_loose(store: &Store, gate: &Gate) -> Vec<Error> {
    let begun = AtomicU64::new(0);
    let begun = &begun;
    gate.hold(true);
    thread::scope(|scope| {
        let threads = KINDS.map(|kind| {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let guard = store.enter();
                    begun.fetch_add(1, Ordering::Relaxed);
                    let number = guard.transact(|tx| perform(tx, &guard, kind))?;
                    gate.recorder.mark(number);
                }
                Ok(())
            })
        });
        while begun.load(Ordering::Relaxed) < KINDS.len() as u64 {
            thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..ROUNDS {
            thread::sleep(Duration::from_millis(30));
            gate.hold(false);
            thread::sleep(Duration::from_millis(2));
            gate.hold(true);
        }
        gate.hold(false);
        threads.into_iter().filter_map(|thread| thread.join().expect("no panic").err()).collect()
    })
}

/// A store with both objects.
fn prepared(path: &Path) {
    let store = options().observer(Arc::new(Recorder::new(path))).create(path).expect("new");
    let guard = store.enter();
    roots(&guard).expect("made");
}

fn record(seed: u64) -> Vec<Event> {
    let keep = place_for_images();
    let path = keep.path().join(format!("store-{seed}"));
    prepared(&path);
    let gate = Gate::new(&path);
    let store = options().observer(gate.clone()).open(&path).expect("closed in order");
    assert_eq!(found(&store), Ok(0));
    gate.recorder.mark(0);
    assert_eq!(let_loose(&store, &gate), []);
    assert_eq!(found(&store), Ok((KINDS.len() * ROUNDS) as u64));
    drop(store);
    gate.recorder.mark((KINDS.len() * ROUNDS) as u64);
    gate.recorder.events()
}

fn check(events: &[Event], nested: bool, seed: u64) {
    let checked = cuts::check(events, nested, seed, &|path, marks, what| {
        look(path, marks.iter().copied().max().unwrap_or(0), what)
    });
    let images = checked.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{images} images of {} events", events.len());
}

#[test]
fn what_waits_survives_whole_and_in_order() {
    check(&record(1), false, 0x5eed_0001);
}

#[test]
fn recovery_of_what_waited_may_be_cut_off_twice() {
    let events = record(2);
    // The first half: what comes after is more of the same.
    let marks = events.iter().enumerate().filter(|(_, event)| matches!(event, Event::Mark(_)));
    let half = marks.map(|(at, _)| at).nth(KINDS.len()).expect("more marks");
    check(&events[..half], true, 0x5eed_0002);
}

#[test]
fn a_failed_sync_keeps_what_was_told_and_nothing_half() {
    for after in 0..8 {
        let keep = place_for_images();
        let path = keep.path().join("store");
        prepared(&path);
        let gate = Gate::new(&path);
        let store = options().observer(gate.clone()).open(&path).expect("closed in order");
        gate.recorder.fail(after, Fail::Write);
        let errors = let_loose(&store, &gate);
        assert!(errors.iter().all(|&error| error == Error::ReadOnly), "{errors:?}");
        assert!(!errors.is_empty() || after > 3, "the log's write {after} fails");
        drop(store);
        let told = gate.recorder.events();
        let told =
            told.iter().filter_map(|event| if let Event::Mark(mark) = event { Some(*mark) } else { None });
        look(&path, told.max().unwrap_or(0), &format!("write {after} fails"))
            .unwrap_or_else(|failure| panic!("{failure}"));
    }
}
