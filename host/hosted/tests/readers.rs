//! Processes that read an ordered map without a lock while others change it, all of them killed at any moment.
//!
//! Every get of a key that is always there finds it, every scan is sorted, complete and of one version, whoever is killed in the middle of a
//! change. `TWIZZLER_KILL_SECONDS=600 cargo test --release -p twizzler --test readers` runs longer.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use twizzler::collections::{OrderedMap, OrderedMapRoot};
use twizzler::{Durability, Error, Guard, HostedBackend, Options, Store, Stored};

/// So long that it is written in place before the record, where stores are kept.
type Long = [u64; 50];
type Value = [u64; 5];

#[derive(Stored)]
#[stored(name = "test.readers", version = 1)]
#[repr(C)]
struct Root {
    /// All values of keys that stay are the same; others come and go together.
    whole: OrderedMapRoot<u64, Value>,
    /// Values are changed one by one.
    single: OrderedMapRoot<u64, Value>,
    /// The same, of long values.
    long: OrderedMapRoot<u64, Long>,
}

const STAYING: u64 = 300;
const GUESTS: u64 = 100;
/// What is never committed.
const UNDONE: u64 = u64::MAX;
/// Two writers, two readers.
const WORKERS: usize = 4;

type Map<'g> = OrderedMap<'g, u64, Value>;
type LongMap<'g> = OrderedMap<'g, u64, Long>;

fn options(durability: Durability) -> Options {
    Options::new().durability(durability).log_bytes(4 << 20)
}

fn open<'g>(guard: &'g Guard<'_, HostedBackend>) -> (Map<'g>, Map<'g>, LongMap<'g>) {
    let root = guard.well_known::<Root>(*b"the readers' map").expect("there").base();
    (
        OrderedMap::new(root.at(Root::whole)),
        OrderedMap::new(root.at(Root::single)),
        OrderedMap::new(root.at(Root::long)),
    )
}

const fn staying(n: u64) -> u64 {
    n * 1000
}

fn change(store: &Store, random: u64) {
    let guard = store.enter();
    let (whole, single, long) = open(&guard);
    let n = random >> 8;
    let changed = guard.transact(|tx| match random % 16 {
        0 => {
            let now = whole.get(tx, &0)?.ok_or(Error::NoSuchObject)?[0] + 1;
            (0..STAYING).try_for_each(|n| whole.insert(tx, staying(n), [now; 5]).map(drop))
        }
        1 | 2 => {
            let first = staying(n % 3) + 1;
            let there = whole.contains_key(tx, &first)?;
            (first..first + GUESTS).try_for_each(|guest| {
                if there {
                    whole.delete(tx, &guest).map(drop)
                } else {
                    whole.insert(tx, guest, [1; 5]).map(drop)
                }
            })
        }
        3..6 => long.insert(tx, staying(n % STAYING), [random; 50]).map(drop),
        6 => {
            // Of neighbours, so that leaves are copied; what is tried before leaves nothing.
            let keys = (0..20).map(|near| staying((n + near) % STAYING));
            let undone = tx.savepoint(|tx| {
                keys.clone().try_for_each(|key| long.insert(tx, key, [UNDONE; 50]).map(drop))?;
                Err::<(), _>(Error::InvalidArgument)
            });
            undone.or_else(|error| if error == Error::InvalidArgument { Ok(()) } else { Err(error) })?;
            keys.clone().try_for_each(|key| long.insert(tx, key, [random; 50]).map(drop))
        }
        _ => single.insert(tx, staying(n % STAYING), [random; 5]).map(drop),
    });
    changed.expect("changed");
}

/// Looks at everything once. Gives the number that all values of the one map have.
fn look(store: &Store, random: u64) -> u64 {
    let guard = store.enter();
    let ((whole, single, long), reader) = (open(&guard), &guard);
    let kept = long.snapshot(&reader).expect("whole");
    let before: Vec<_> = kept.iter(&reader).collect();
    for n in 0..100 {
        let key = staying((random >> 8).wrapping_add(n * 7) % STAYING);
        whole.get(&reader, &key).expect("whole").expect("it is always there");
        let value = single.get(&reader, &key).expect("whole").expect("it is always there");
        assert_eq!(value, [value[0]; 5], "of one version");
        let value = long.get(&reader, &key).expect("whole").expect("it is always there");
        assert_eq!(value, [value[0]; 50], "of one version");
    }
    assert!(kept.iter(&reader).eq(before.iter().copied()), "a snapshot stays as it is");
    let values = before.iter().map(|entry| entry.expect("never interrupted"));
    assert!(values.clone().map(|(key, _)| key).eq((0..STAYING).map(staying)), "none is missing");
    assert!(
        values.clone().all(|(_, value)| value == [value[0]; 50] && value[0] != UNDONE),
        "none is torn or undone"
    );
    let entries: Vec<(u64, Value)> =
        whole.iter(&reader).collect::<Result<_, _>>().expect("never interrupted");
    assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "in order, none twice");
    let (guests, stay): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key % 1000 != 0);
    assert!(stay.iter().map(|(key, _)| *key).eq((0..STAYING).map(staying)), "none is missing");
    assert!(stay.iter().all(|(_, value)| *value == stay[0].1), "of one version");
    assert!(guests.chunk_by(|a, b| a.0 / 1000 == b.0 / 1000).all(|those| those.len() as u64 == GUESTS));
    let all: Vec<_> = single.iter(&reader).collect::<Result<_, _>>().expect("never interrupted");
    assert_eq!(all.len() as u64, STAYING);
    stay[0].1[0]
}

/// Is run as a process of its own by the tests below.
#[test]
#[ignore = "is started by the other tests"]
fn worker() {
    let var = |name: &str| std::env::var(name).expect("the test sets it");
    let number: usize = var("WORKER").parse().expect("a number");
    let durability =
        if var("DURABILITY") == "PowerCut" { Durability::PowerCut } else { Durability::ProcessKill };
    let store =
        options(durability).first_slot(1000 + 5000 * number as u32).open(var("STORE")).expect("opens");
    let mut random = u64::from(std::process::id()).wrapping_mul(2_654_435_761) + 1;
    let (mut out, mut last) = (std::io::stdout(), 0);
    for count in 1u64.. {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if number.is_multiple_of(2) {
            change(&store, random >> 20);
        } else {
            let now = look(&store, random >> 20);
            assert!(now >= last, "time goes on");
            last = now;
        }
        writeln!(out, "done {count}").expect("the test reads");
    }
}

/// A process at work, and how much it has done.
fn start(
    path: &Path,
    durability: Durability,
    number: usize,
    done: &Arc<AtomicU64>,
    failures: &mpsc::Sender<String>,
) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "worker", "--ignored", "--nocapture", "--quiet"])
        .env("WORKER", number.to_string())
        .env("STORE", path)
        .env("DURABILITY", format!("{durability:?}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test runs");
    let (lines, errors) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (done, failures) = (done.clone(), failures.clone());
    std::thread::spawn(move || {
        let lines = BufReader::new(lines).lines().map_while(Result::ok);
        done.fetch_add(lines.filter(|line| line.starts_with("done ")).count() as u64, Ordering::Relaxed);
        let said: Vec<String> = BufReader::new(errors).lines().map_while(Result::ok).collect();
        if said.iter().any(|line| line.contains("panicked")) {
            let _ = failures.send(said.join("\n"));
        }
    });
    child
}

fn seconds() -> Duration {
    let asked = std::env::var("TWIZZLER_KILL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(3))
}

fn filled(durability: Durability) -> Option<(PathBuf, tempfile::TempDir)> {
    let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("room");
    let path = keep.path().join("store");
    let store = match options(durability).create(&path) {
        Err(twizzler::StoreError::Unsuitable { .. }) => return None, // temporary files lie in memory here
        store => store.expect("new"),
    };
    let guard = store.enter();
    let (whole, single, long) = open(&guard);
    let fill = guard.transact(|tx| {
        (0..STAYING).try_for_each(|n| {
            whole.insert(tx, staying(n), [0; 5])?;
            single.insert(tx, staying(n), [0; 5])?;
            long.insert(tx, staying(n), [0; 50]).map(drop)
        })
    });
    fill.expect("filled");
    Some((path, keep))
}

fn campaign(durability: Durability) {
    let Some((path, _keep)) = filled(durability) else { return };
    let (failures, failed) = mpsc::channel();
    let done: [Arc<AtomicU64>; WORKERS] = Default::default();
    let start = |number: usize| start(&path, durability, number, &done[number], &failures);
    let mut workers: Vec<Child> = (0..WORKERS).map(start).collect();
    let mut random = u64::from(std::process::id()) | 1;
    let end = Instant::now() + seconds();
    let mut kills = 0;
    while Instant::now() < end {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis(50 + (random >> 33) % 250));
        let number = (random >> 50) as usize % WORKERS;
        workers[number].kill().expect("ours");
        workers[number].wait().expect("ours");
        workers[number] = start(number);
        kills += 1;
        if let Ok(failure) = failed.try_recv() {
            panic!("{failure}");
        }
    }
    for mut worker in workers {
        worker.kill().expect("ours");
        worker.wait().expect("ours");
    }
    look(&options(durability).open(&path).expect("opens"), 0);
    drop(failures);
    if let Some(failure) = failed.iter().next() {
        panic!("{failure}");
    }
    let done = done.map(|count| count.load(Ordering::Relaxed));
    assert!(
        done[0] + done[2] > 0 && done[1] + done[3] > 0,
        "writers and readers got something done: {done:?}"
    );
    println!("{kills} kills, {done:?} changes and looks, by turns");
}

#[test]
fn readers_see_all_of_one_version_by_lanes() {
    campaign(Durability::ProcessKill);
}

#[test]
fn readers_see_all_of_one_version_by_the_log() {
    campaign(Durability::PowerCut);
}
