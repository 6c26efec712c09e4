//! A program is killed between its commit's place in the log and the objects; another one finishes it while threads read without locks.

use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use twizzler::collections::{HashMap, HashMapRoot};
use twizzler::{Guard, HostedBackend, Observer, Options, Step, Store};

/// All numbers of a value are the same.
type Value = [u64; 100];
type Map<'g> = HashMap<'g, u64, Value>;

const MAP: [u8; 16] = *b"a map to torture";
const KEY: u64 = 7;
/// Longer than a look at the map takes, where nothing keeps it waiting.
const A_LOOK: Duration = Duration::from_millis(50);

fn map<'g>(guard: &'g Guard<'_, HostedBackend>) -> Map<'g> {
    HashMap::new(guard.well_known::<HashMapRoot<u64, Value>>(MAP).expect("there").base())
}

fn put(store: &Store, number: u64) {
    let guard = store.enter();
    let map = map(&guard);
    guard.transact(|tx| map.insert(tx, KEY, [number; 100]).map(drop)).expect("committed");
}

fn options() -> Options {
    Options::new().log_bytes(1 << 20)
}

/// Kills this process where its next record is about to be written, once that is wanted.
#[derive(Debug, Default)]
struct Killer {
    is_due: AtomicBool,
}

impl Observer for Killer {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        if matches!(step, Step::WriteDurably(..)) && self.is_due.load(Ordering::Relaxed) {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL)?;
            loop {
                std::thread::park();
            }
        }
        Ok(())
    }
}

/// Is run as a process of its own by the test below.
#[test]
#[ignore = "is started by the other test"]
fn victim() {
    let killer = Arc::new(Killer::default());
    let path = std::env::var("STORE").expect("the test sets it");
    let store = options().observer(killer.clone()).first_slot(5000).open(path).expect("opens");
    // Nothing else is to be written then.
    store.backend().checkpoint().expect("done");
    put(&store, 2);
    killer.is_due.store(true, Ordering::Relaxed);
    put(&store, 3);
    unreachable!("its record was never written");
}

/// Gives readers time for a look before each step by which an object is changed.
#[derive(Debug, Default)]
struct Slow {
    looks: AtomicU64,
    steps: AtomicU64,
}

impl Observer for Slow {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        if matches!(step, Step::Write(path, ..) if path.starts_with("objects/")) {
            self.steps.fetch_add(1, Ordering::Relaxed);
            // One look may be under way.
            let (before, since) = (self.looks.load(Ordering::Relaxed), Instant::now());
            while self.looks.load(Ordering::Relaxed) < before + 2 && since.elapsed() < A_LOOK {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

#[test]
fn readers_without_locks_never_see_half_of_what_a_dead_program_committed() {
    let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("room");
    let path = keep.path().join("store");
    let slow = Arc::new(Slow::default());
    let store = options().observer(slow.clone()).create(&path).expect("new");
    put(&store, 1);
    let victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "victim", "--ignored", "--quiet"])
        .env("STORE", &path)
        .stdout(Stdio::null())
        .status();
    assert!(!victim.expect("this test runs").success(), "it was killed");
    let is_over = AtomicBool::new(false);
    let look = || {
        let guard = store.enter();
        let found = map(&guard).get(&&guard, &KEY);
        slow.looks.fetch_add(1, Ordering::Relaxed);
        found.expect("sound").expect("it is always there")
    };
    assert_eq!(look(), [2; 100], "the last one is not in place");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let value = look();
                assert_eq!(value, [value[0]; 100], "of one commit");
            }
        });
        let guard = store.enter();
        let map = map(&guard);
        // Waits for the lock, and so finishes what its holder committed.
        let found = guard.transact(|tx| map.get(tx, &KEY));
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(found, Ok(Some([3; 100])));
        reader.join().expect("no panic");
    });
    assert!(slow.steps.load(Ordering::Relaxed) > 0, "somebody finished it");
    assert_eq!(look(), [3; 100]);
}
