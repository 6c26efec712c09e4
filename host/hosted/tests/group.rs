//! Many writers of one object: who has its place in the log lets others go on, and nobody is told anything before the disk has it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{io, thread};

use tempfile::TempDir;
use twizzler::collections::{OrderedMap, OrderedMapRoot};
use twizzler::{Error, Observer, Options, Reader, Step, Store};

/// Lets durable writes of the log wait, or fail, as the test says.
#[derive(Debug, Default)]
struct Disk {
    how: Mutex<How>,
    changed: Condvar,
    waiting: AtomicUsize,
    writes: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum How {
    #[default]
    Works,
    Waits,
    Fails,
    /// Log writes work, but files' syncs wait.
    SyncsWait,
    /// Both wait.
    AllWaits,
    /// Log writes wait, files' syncs fail.
    SyncsFail,
}

impl How {
    /// Whether writes of the log wait, or else syncs of files.
    const fn holds_up(self, is_write: bool) -> bool {
        if is_write {
            matches!(self, Self::Waits | Self::AllWaits | Self::SyncsFail)
        } else {
            matches!(self, Self::SyncsWait | Self::AllWaits)
        }
    }

    const fn fails(self, is_write: bool) -> bool {
        if is_write { matches!(self, Self::Fails) } else { matches!(self, Self::SyncsFail) }
    }
}

impl Disk {
    fn be(&self, how: How) {
        *self.how.lock().expect("no panic") = how;
        self.changed.notify_all();
    }

    /// Returns when somebody waits for the disk.
    fn somebody_waits(&self) {
        self.so_many_wait(1);
    }

    fn so_many_wait(&self, number: usize) {
        while self.waiting.load(Ordering::Relaxed) < number {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Observer for Disk {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        let is_write = match step {
            Step::WriteDurably(..) => true,
            Step::SyncFile(_) => false,
            _ => return Ok(()),
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let how = self.how.lock().expect("no panic");
        let (how, _) =
            self.changed.wait_timeout_while(how, LONG, |how| how.holds_up(is_write)).expect("no panic");
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        if how.fails(is_write) {
            return Err(io::ErrorKind::Other.into());
        }
        Ok(())
    }
}

struct Place {
    path: PathBuf,
    disk: Arc<Disk>,
    _keep: TempDir,
}

impl Place {
    fn new() -> (Self, Store) {
        let keep = tempfile::tempdir().expect("a temporary directory");
        let place = Self { path: keep.path().join("store"), disk: Arc::default(), _keep: keep };
        let store = place.options().create(&place.path).expect("new");
        (place, store)
    }

    fn options(&self) -> Options {
        Options::new().log_bytes(1 << 20).observer(self.disk.clone())
    }
}

const COUNTER: [u8; 16] = *b"a test's counter";

fn add(store: &Store, seen: &AtomicU64) -> Result<(), Error> {
    let guard = store.enter();
    let counter = guard.well_known::<u64>(COUNTER)?.base();
    guard.transact(|tx| {
        let value = tx.get(counter) + 1;
        seen.fetch_max(value, Ordering::Relaxed);
        tx.set(counter, value)
    })
}

fn in_place(store: &Store) -> u64 {
    let guard = store.enter();
    guard.get(guard.well_known::<u64>(COUNTER).expect("there").base())
}

fn wait_for(value: &AtomicU64, least: u64) {
    let start = Instant::now();
    while value.load(Ordering::Relaxed) < least {
        assert!(start.elapsed() < LONG / 2, "nobody comes so far");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(40);
/// So long nothing happens that must not happen.
const A_WHILE: Duration = Duration::from_millis(100);

#[test]
fn writers_of_one_object_share_a_write_of_the_log() {
    let (place, store) = Place::new();
    assert_eq!(in_place(&store), 0);
    let seen = AtomicU64::new(0);
    place.disk.be(How::Waits);
    thread::scope(|scope| {
        let first = scope.spawn(|| add(&store, &seen));
        place.disk.somebody_waits();
        let before = place.disk.writes.load(Ordering::Relaxed);
        let others: Vec<_> = (0..5).map(|_| scope.spawn(|| add(&store, &seen))).collect();
        // All have based their changes on each other's.
        wait_for(&seen, 6);
        thread::sleep(A_WHILE);
        assert!(!first.is_finished() && !others.iter().any(|other| other.is_finished()));
        assert_eq!(in_place(&store), 0, "what isn't durable is not in place");
        place.disk.be(How::Works);
        first.join().expect("no panic").expect("committed");
        others.into_iter().for_each(|other| other.join().expect("no panic").expect("committed"));
        // One alone, the others together, unless one of them was very slow.
        assert!(place.disk.writes.load(Ordering::Relaxed) - before <= 3);
    });
    assert_eq!(in_place(&store), 6);
}

#[test]
fn who_has_seen_what_is_not_durable_says_nothing_before_it_is() {
    let (place, store) = Place::new();
    in_place(&store);
    let seen = AtomicU64::new(0);
    let read = |result: Result<(), Error>| {
        let guard = store.enter();
        let counter = guard.well_known::<u64>(COUNTER).expect("there").base();
        guard.transact(|tx| {
            seen.fetch_add(tx.get(counter), Ordering::Relaxed);
            result
        })
    };
    place.disk.be(How::Waits);
    thread::scope(|scope| {
        let writer = scope.spawn(|| add(&store, &AtomicU64::new(0)));
        place.disk.somebody_waits();
        let reader = scope.spawn(|| read(Ok(())));
        let failing = scope.spawn(|| read(Err(Error::Interrupted)));
        let locked = scope.spawn(|| {
            let guard = store.enter();
            let counter = guard.well_known::<u64>(COUNTER).expect("there");
            let _locked = guard.lock(counter.area()).expect("locked");
            guard.get(counter.base())
        });
        wait_for(&seen, 2);
        thread::sleep(A_WHILE);
        assert!(!reader.is_finished(), "told its caller what may vanish");
        assert!(!failing.is_finished(), "failed because of what may vanish");
        assert!(!locked.is_finished(), "has a lock on what will still change");
        place.disk.be(How::Works);
        writer.join().expect("no panic").expect("committed");
        assert_eq!(reader.join().expect("no panic"), Ok(()));
        assert_eq!(failing.join().expect("no panic"), Err(Error::Interrupted));
        assert_eq!(locked.join().expect("no panic"), 1);
    });
}

#[test]
fn a_failed_sync_takes_along_who_came_after() {
    let (place, store) = Place::new();
    let seen = AtomicU64::new(0);
    add(&store, &seen).expect("committed");
    place.disk.be(How::Waits);
    thread::scope(|scope| {
        let first = scope.spawn(|| add(&store, &seen));
        place.disk.somebody_waits();
        let other = scope.spawn(|| add(&store, &seen));
        wait_for(&seen, 3);
        place.disk.be(How::Fails);
        assert_eq!(first.join().expect("no panic"), Err(Error::ReadOnly));
        assert_eq!(other.join().expect("no panic"), Err(Error::ReadOnly));
    });
    assert_eq!(in_place(&store), 1);
    let guard = store.enter();
    let counter = guard.well_known::<u64>(COUNTER).expect("there").base();
    assert_eq!(guard.transact(|tx| Ok::<_, Error>(tx.get(counter))), Ok(1), "nobody holds its lock");
    drop(guard);
    drop(store);
    place.disk.be(How::Works);
    assert_eq!(in_place(&place.options().open(&place.path).expect("opens")), 1);
}

#[test]
fn what_was_forgotten_is_not_called_committed_when_the_disk_gets_it_after_all() {
    let (place, store) = Place::new();
    let seen = AtomicU64::new(0);
    // The first one syncs the log's head.
    add(&store, &seen).expect("committed");
    place.disk.be(How::SyncsWait);
    // Until a checkpoint is under way.
    while place.disk.waiting.load(Ordering::Relaxed) == 0 {
        add(&store, &seen).expect("committed");
    }
    let done = seen.load(Ordering::Relaxed);
    place.disk.be(How::AllWaits);
    thread::scope(|scope| {
        let first = scope.spawn(|| add(&store, &seen));
        place.disk.so_many_wait(2);
        let other = scope.spawn(|| add(&store, &seen));
        wait_for(&seen, done + 2);
        thread::sleep(A_WHILE);
        place.disk.be(How::SyncsFail);
        assert_eq!(other.join().expect("no panic"), Err(Error::ReadOnly));
        place.disk.be(How::Works);
        assert_eq!(first.join().expect("no panic"), Err(Error::ReadOnly));
    });
    assert_eq!(in_place(&store), done);
    drop(store);
    // Its write may have been the one that the disk did.
    let after = in_place(&place.options().open(&place.path).expect("opens"));
    assert!((done..=done + 1).contains(&after), "{after} after {done}");
}

#[test]
fn other_programs_wait_until_it_is_in_place() {
    let (place, store) = Place::new();
    in_place(&store);
    // As far as locks go, a program of its own.
    let other = place.options().open(&place.path).expect("shared");
    let (seen, seen_by_other) = (AtomicU64::new(0), AtomicU64::new(0));
    place.disk.be(How::Waits);
    thread::scope(|scope| {
        let first = scope.spawn(|| add(&store, &seen));
        place.disk.somebody_waits();
        let second = scope.spawn(|| add(&other, &seen_by_other));
        thread::sleep(A_WHILE);
        assert_eq!(seen_by_other.load(Ordering::Relaxed), 0, "has read what isn't durable");
        let third = scope.spawn(|| add(&store, &seen));
        wait_for(&seen, 2);
        place.disk.be(How::Works);
        for thread in [first, second, third] {
            thread.join().expect("no panic").expect("committed");
        }
    });
    assert_eq!((in_place(&store), in_place(&other)), (3, 3));
}

#[test]
fn an_undone_transaction_leaves_what_it_was_based_on() {
    let (place, store) = Place::new();
    in_place(&store);
    let (seen, tried) = (AtomicU64::new(0), AtomicU64::new(0));
    place.disk.be(How::Waits);
    thread::scope(|scope| {
        let first = scope.spawn(|| add(&store, &seen));
        place.disk.somebody_waits();
        let undone = scope.spawn(|| {
            let guard = store.enter();
            let counter = guard.well_known::<u64>(COUNTER).expect("there").base();
            guard.transact(|tx| {
                tx.set(counter, 70)?;
                tried.store(1, Ordering::Relaxed);
                Err::<(), _>(Error::Interrupted)
            })
        });
        wait_for(&tried, 1);
        let last = scope.spawn(|| add(&store, &seen));
        wait_for(&seen, 2);
        place.disk.be(How::Works);
        first.join().expect("no panic").expect("committed");
        assert_eq!(undone.join().expect("no panic"), Err(Error::Interrupted));
        last.join().expect("no panic").expect("committed");
    });
    assert_eq!(in_place(&store), 2);
}

#[test]
fn an_object_that_is_mapped_anew_shows_what_waits_for_it() {
    let (place, store) = Place::new();
    in_place(&store);
    let id = {
        let guard = store.enter();
        guard.id_of(guard.well_known::<u64>(COUNTER).expect("there").area())
    };
    let seen = AtomicU64::new(0);
    place.disk.be(How::Waits);
    thread::scope(|scope| {
        let first = scope.spawn(|| add(&store, &seen));
        place.disk.somebody_waits();
        // Where it lay is kept for the first one, and for nobody else.
        store.unmap(id);
        let second = scope.spawn(|| add(&store, &seen));
        thread::sleep(A_WHILE);
        place.disk.be(How::Works);
        first.join().expect("no panic").expect("committed");
        second.join().expect("no panic").expect("committed");
    });
    assert_eq!(in_place(&store), 2);
}

#[test]
fn commits_go_on_beside_a_checkpoint() {
    let (place, store) = Place::new();
    let seen = AtomicU64::new(0);
    add(&store, &seen).expect("committed");
    place.disk.be(How::SyncsWait);
    // Half of the log, and more.
    while store.backend().log_bytes_in_use() < (1 << 20) * 5 / 8 {
        add(&store, &seen).expect("committed");
    }
    place.disk.somebody_waits();
    let done = seen.load(Ordering::Relaxed);
    add(&store, &seen).expect("committed");
    assert_eq!(in_place(&store), done + 1);
    place.disk.be(How::Works);
    let start = Instant::now();
    while store.backend().log_bytes_in_use() > (1 << 20) / 2 {
        assert!(start.elapsed() < LONG, "the checkpoint never ends");
        thread::sleep(Duration::from_millis(1));
    }
    drop(store);
    assert_eq!(in_place(&place.options().open(&place.path).expect("opens")), done + 1);
}

type Root = OrderedMapRoot<u64, [u8; 24]>;
const MAP: [u8; 16] = *b"a test's own map";
const KEYS: u64 = 40;
/// More than is staged: written in place.
const LARGE: u64 = 300 * 1024;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn value(number: u64) -> [u8; 24] {
    let mut value = [number as u8; 24];
    value[..8].copy_from_slice(&number.to_le_bytes());
    value
}

/// Whatever there is that threads can do, in one map, two counters and a heap; each thread knows what its own keys must hold.
#[test]
fn threads_do_everything_at_once() {
    let (_place, store) = Place::new();
    let done = AtomicBool::new(false);
    let rounds = 300;
    let guard = store.enter();
    guard.well_known::<Root>(MAP).expect("made");
    let counters = [*b"first counter\0\0\0", *b"second counter\0\0"];
    for nonce in counters {
        guard.well_known::<u64>(nonce).expect("made");
    }
    drop(guard);
    let work = |thread: u64| {
        let mut state = thread * 7919 + 1;
        let mut model = std::collections::BTreeMap::new();
        let mut added = 0;
        for round in 0..rounds {
            let guard = store.enter();
            let root = guard.well_known::<Root>(MAP).expect("there");
            let map: OrderedMap<'_, u64, [u8; 24]> = OrderedMap::new(root.base());
            let places = counters.map(|nonce| guard.well_known::<u64>(nonce).expect("there").base());
            let key = thread * KEYS + random(&mut state) % KEYS;
            let what = random(&mut state) % 20;
            // What the last run has seen, which is the one that counts.
            let (mut found, mut counted) = (None, [0; 2]);
            let result = guard.transact(|tx| match what {
                0..=7 => {
                    found = Some(map.get(tx, &key)?);
                    map.insert(tx, key, value(round)).map(drop)
                }
                8..=10 => {
                    found = Some(map.remove(tx, &key)?);
                    Ok(())
                }
                // In both orders, so that they get in each other's way.
                11..=13 => {
                    for place in if what == 11 { places } else { [places[1], places[0]] } {
                        tx.set(place, tx.get(place) + 1)?;
                    }
                    Ok(())
                }
                14 => map.insert(tx, key, value(round)).and(Err(Error::Interrupted)),
                15 => {
                    let large = tx.alloc_span::<u64>(root.area(), LARGE / 8)?;
                    tx.free_span(large)?;
                    map.insert(tx, key, value(round)).map(drop)
                }
                16 => {
                    let made = tx.create::<u64>()?;
                    tx.set(made.base(), 7)?;
                    let id = guard.id_of(made.area());
                    tx.delete(id)?;
                    map.insert(tx, key, value(round)).map(drop)
                }
                _ => {
                    found = Some(map.get(tx, &key)?);
                    counted = places.map(|place| tx.get(place));
                    Ok(())
                }
            });
            match what {
                14 => assert_eq!(result, Err(Error::Interrupted)),
                _ => result.unwrap_or_else(|error| panic!("step {what}: {error:?}")),
            }
            assert!(
                found.is_none_or(|found| found == model.get(&key).copied()),
                "a commit is seen by the next"
            );
            assert_eq!(counted[0], counted[1]);
            match what {
                0..=7 | 15 | 16 => drop(model.insert(key, value(round))),
                8..=10 => drop(model.remove(&key)),
                11..=13 => added += 1,
                _ => {}
            }
            let found = loop {
                match map.get(&&guard, &key) {
                    Err(Error::Interrupted) => {}
                    found => break found.expect("sound"),
                }
            };
            assert_eq!(found, model.get(&key).copied(), "what was committed is in place");
        }
        (model, added)
    };
    let work = &work;
    let models = thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|number| scope.spawn(move || work(number))).collect();
        let looks = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let guard = store.enter();
                let root = guard.well_known::<Root>(MAP).expect("there");
                let map: OrderedMap<'_, u64, [u8; 24]> = OrderedMap::new(root.base());
                let all: Result<Vec<_>, Error> = map.range(&&guard, ..).collect();
                assert!(matches!(all, Ok(_) | Err(Error::Interrupted)), "a version is whole");
            }
        });
        let models: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        looks.join().expect("no panic");
        models.into_iter().map(|model| model.expect("no panic")).collect::<Vec<_>>()
    });
    let guard = store.enter();
    let map: OrderedMap<'_, u64, [u8; 24]> =
        OrderedMap::new(guard.well_known::<Root>(MAP).expect("there").base());
    let all: Vec<(u64, [u8; 24])> = map.range(&&guard, ..).map(|entry| entry.expect("sound")).collect();
    let wanted: Vec<(u64, [u8; 24])> = models.iter().flat_map(|(model, _)| model.clone()).collect();
    assert_eq!(all, wanted);
    let counted = counters.map(|nonce| guard.get(guard.well_known::<u64>(nonce).expect("there").base()));
    assert_eq!(counted, [models.iter().map(|(_, added)| added).sum::<u64>(); 2]);
}
