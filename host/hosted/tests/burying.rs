//! A program is killed between its commit's place in the log and the objects; another one finishes it while threads read without locks.

mod common;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{make, place};
use twizzler::collections::{HashMap, HashMapRoot};
use twizzler::{Access, Error, Guard, HostedBackend, ObjId, Observer, Options, Reader, Step, Store};

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

/// Kills itself once it has committed this, and it is not yet on the disk.
fn die_over(commit: impl FnOnce(&Store)) {
    let killer = Arc::new(Killer::default());
    let path = std::env::var("STORE").expect("the test sets it");
    let store = options().observer(killer.clone()).first_slot(5000).open(path).expect("opens");
    // Maps what there is, so that nothing but the commit is to be written.
    put(&store, 2);
    killer.is_due.store(true, Ordering::Relaxed);
    commit(&store);
    unreachable!("its record was never written");
}

/// Runs one of these tests as a process of its own, which is killed.
fn kill(test: &str, store: &Path, objects: &[ObjId]) {
    let objects: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--ignored", "--quiet"])
        .envs([("STORE", store.as_os_str()), ("OBJECTS", objects.join(",").as_ref())])
        .stdout(Stdio::null())
        .status();
    assert_eq!(victim.expect("this test runs").signal(), Some(libc::SIGKILL));
}

#[test]
#[ignore = "is started by another test"]
fn victim() {
    die_over(|store| put(store, 3));
}

#[test]
#[ignore = "is started by another test"]
fn victim_of_many_objects() {
    let objects = std::env::var("OBJECTS").expect("the test sets it");
    die_over(|store| {
        let all = store.transact(|tx| {
            for id in objects.split(',') {
                let object = tx.open::<u64>(id.parse().expect("an ID"), Access::Write)?;
                tx.set(object.base(), 5)?;
            }
            Ok::<_, Error>(())
        });
        all.expect("committed");
    });
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
    let (_keep, path) = place();
    let slow = Arc::new(Slow::default());
    let store = options().observer(slow.clone()).create(&path).expect("new");
    put(&store, 1);
    kill("victim", &path, &[]);
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

/// Objects' files can't be synced.
#[derive(Debug)]
struct NoSyncs;

impl Observer for NoSyncs {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        match step {
            Step::SyncFile(path) if path.starts_with("objects/") => Err(rustix::io::Errno::IO.into()),
            Step::SyncAll => Err(rustix::io::Errno::IO.into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn many_objects_that_a_dead_program_changed_are_left_to_the_checkpoint() {
    let (_keep, path) = place();
    let store = options().observer(Arc::new(NoSyncs)).create(&path).expect("new");
    put(&store, 1);
    // More than files are kept open.
    let objects: Vec<ObjId> = (0..220).map(|_| make(&store, 4)).collect();
    kill("victim_of_many_objects", &path, &objects);
    let read = |id| store.transact(|tx| Ok::<_, Error>(tx.get(tx.open::<u64>(id, Access::Read)?.base())));
    assert!(objects.iter().all(|&id| read(id) == Ok(5)));
    assert!(!store.backend().is_poisoned());
    assert_eq!(store.backend().checkpoint(), Err(Error::ReadOnly), "that is who syncs them");
    assert!(store.backend().is_poisoned());
}
