//! Processes that share a store and are killed at any moment.
//!
//! Workers, of several threads each, move money between accounts of two objects, and count what they did in a third one, all in one transaction;
//! each has its objects at other addresses. The test kills them and starts others. At the end, and at each start, no money is lost and nothing that was acknowledged
//! is missing. `TWIZZLER_KILL_SECONDS=600 cargo test --release -p twizzler --test kill` runs longer.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use twizzler::{Access, Durability, Error, ObjId, Options, Reader, Store};

const WORKERS: usize = 3;
const THREADS: usize = 3;
const ACCOUNTS: usize = 16;
const MONEY: u64 = 1000;

type Accounts = [u64; ACCOUNTS];

fn options(durability: Durability) -> Options {
    Options::new().durability(durability).log_bytes(1 << 20)
}

/// Is run as a process of its own by the tests below.
#[test]
#[ignore = "is started by the other tests"]
fn worker() {
    let var = |name: &str| std::env::var(name).expect("the test sets it");
    let number: usize = var("WORKER").parse().expect("a number");
    let ids: Vec<ObjId> = var("OBJECTS").split(',').map(|id| id.parse().expect("an ID")).collect();
    let durability =
        if var("DURABILITY") == "PowerCut" { Durability::PowerCut } else { Durability::ProcessKill };
    let slot = 1000 + 5000 * number as u32;
    let store = options(durability).first_slot(slot).open(var("STORE")).expect("opens");
    std::thread::scope(|scope| {
        for thread in number * THREADS..(number + 1) * THREADS {
            let (store, ids) = (&store, &ids);
            scope.spawn(move || move_money(store, ids, thread));
        }
    });
}

/// Moves money for ever.
fn move_money(store: &Store, ids: &[ObjId], thread: usize) {
    let mut random = (std::process::id() as usize * THREADS + thread) * 2_654_435_761 + 1;
    loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (from, to, amount) = (random >> 33, random >> 40, (random >> 50) as u64 % 10);
        let done = store.transact(|tx| {
            let mut places = Vec::new();
            for &id in ids {
                places.push(tx.open::<Accounts>(id, Access::Write)?.base());
            }
            // Some lock first, others have conflicts.
            for place in places.iter().filter(|_| thread.is_multiple_of(2)) {
                tx.lock(place.object())?;
            }
            let from = places[from % 2].index(from / 2 % ACCOUNTS).expect("below");
            let to = places[to % 2].index(to / 2 % ACCOUNTS).expect("below");
            let count = places[2].index(thread).expect("below");
            let has = tx.get(from);
            let amount = amount.min(has);
            tx.set(from, has - amount)?;
            tx.set(to, tx.get(to) + amount)?;
            tx.set(count, tx.get(count) + 1)?;
            Ok::<_, Error>(tx.get(count))
        });
        match done {
            Ok(count) => println!("done {thread} {count}"),
            Err(error) => {
                eprintln!("panicked: thread {thread}: {error}");
                std::process::exit(1);
            }
        }
    }
}

struct Bank {
    path: PathBuf,
    durability: Durability,
    objects: Vec<ObjId>,
    acknowledged: Arc<[AtomicU64; WORKERS * THREADS]>,
    _keep: tempfile::TempDir,
}

impl Bank {
    fn new(durability: Durability) -> Option<Self> {
        let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("room");
        let path = keep.path().join("store");
        let store = match options(durability).create(&path) {
            Err(twizzler::StoreError::Unsuitable { .. }) => return None, // temporary files lie in memory here
            store => store.expect("new"),
        };
        let mut objects = Vec::new();
        for first in [MONEY, MONEY, 0] {
            let id = store.transact(|tx| {
                let object = tx.create::<Accounts>()?;
                for n in 0..ACCOUNTS {
                    tx.set(object.base().index(n).expect("below"), first)?;
                }
                Ok::<_, Error>(tx.space().id_of(object.area()))
            });
            objects.push(id.expect("room"));
        }
        Some(Self { path, durability, objects, acknowledged: Arc::default(), _keep: keep })
    }

    fn start(&self, number: usize, failures: &mpsc::Sender<String>) -> Child {
        let ids: Vec<String> = self.objects.iter().map(ToString::to_string).collect();
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "worker", "--ignored", "--nocapture", "--quiet"])
            .env("WORKER", number.to_string())
            .env("STORE", &self.path)
            .env("OBJECTS", ids.join(","))
            .env("DURABILITY", format!("{:?}", self.durability))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this test runs");
        let lines = child.stdout.take().expect("piped");
        let acknowledged = self.acknowledged.clone();
        let errors = child.stderr.take().expect("piped");
        let failures = failures.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let mut words = line.strip_prefix("done ").into_iter().flat_map(str::split_ascii_whitespace);
                let mut next = || words.next()?.parse::<u64>().ok();
                if let (Some(thread), Some(count)) = (next(), next()) {
                    acknowledged[thread as usize].fetch_max(count, Ordering::Relaxed);
                }
            }
            let said: Vec<String> = BufReader::new(errors).lines().map_while(Result::ok).collect();
            if said.iter().any(|line| line.contains("panicked")) {
                failures.send(said.join("\n")).expect("the test waits");
            }
        });
        child
    }

    fn check(&self, store: &Store) {
        // Before looking: the others go on.
        let acknowledged: Vec<u64> =
            self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let guard = store.enter();
        let sums: Vec<(u64, Accounts)> = guard
            .transact(|tx| {
                let mut read = Vec::new();
                for &id in &self.objects {
                    let place = tx.open::<Accounts>(id, Access::Write)?.base();
                    tx.lock(place.object())?;
                    let accounts: Accounts = tx.get(place);
                    read.push((accounts.iter().sum(), accounts));
                }
                Ok::<_, Error>(read)
            })
            .expect("readable");
        assert_eq!(sums[0].0 + sums[1].0, 2 * MONEY * ACCOUNTS as u64, "money is neither made nor lost");
        for (number, acknowledged) in acknowledged.into_iter().enumerate() {
            let there = sums[2].1[number];
            assert!(there >= acknowledged, "thread {number} did {acknowledged}, but {there} are there");
        }
    }
}

fn seconds() -> Duration {
    let asked = std::env::var("TWIZZLER_KILL_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(3))
}

fn campaign(durability: Durability) {
    let Some(bank) = Bank::new(durability) else { return };
    let (failures, failed) = mpsc::channel();
    let mut random = u64::from(std::process::id()) | 1;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let mut workers: Vec<Child> = (0..WORKERS).map(|number| bank.start(number, &failures)).collect();
    let end = Instant::now() + seconds();
    let mut kills = 0;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10 + below(150)));
        // Now and then all of them: then the next one is the first again.
        let all = below(5) == 0;
        let one = below(WORKERS as u64) as usize;
        for number in (0..WORKERS).filter(|&number| all || number == one) {
            workers[number].kill().expect("ours");
            workers[number].wait().expect("ours");
            kills += 1;
        }
        if below(4) == 0 {
            bank.check(&options(durability).open(&bank.path).expect("opens"));
        }
        for number in (0..WORKERS).filter(|&number| all || number == one) {
            workers[number] = bank.start(number, &failures);
        }
        if let Ok(failure) = failed.try_recv() {
            panic!("{failure}");
        }
    }
    for mut worker in workers {
        worker.kill().expect("ours");
        worker.wait().expect("ours");
    }
    bank.check(&options(durability).open(&bank.path).expect("opens"));
    let done: Vec<u64> = bank.acknowledged.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    assert!(done.iter().any(|&count| count > 0), "somebody got something done");
    println!("{kills} kills, {done:?} transactions");
}

#[test]
fn killed_processes_lose_nothing_by_the_log() {
    campaign(Durability::PowerCut);
}

#[test]
fn killed_processes_lose_nothing_by_lanes() {
    campaign(Durability::ProcessKill);
}
