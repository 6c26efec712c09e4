//! What commits cost in a store with a log: exact numbers of durable writes of the log and of syncs of files.
//! `docs/programming.md` has the same table.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use std::{io, thread};

use twizzler::{Error, Guard, HostedBackend, Observer, Options, Reader, Step, Store, Tx};

/// Counts, and lets the log's writes wait when the test says so.
#[derive(Debug, Default)]
struct Disk {
    log_writes: AtomicU64,
    syncs: AtomicU64,
    waits: Mutex<bool>,
    changed: Condvar,
}

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(40);
const COMMITTERS: u64 = 16;

impl Observer for Disk {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        match step {
            Step::WriteDurably(..) => {
                self.log_writes.fetch_add(1, Ordering::SeqCst);
                let waits = self.waits.lock().expect("no panic");
                drop(self.changed.wait_timeout_while(waits, LONG, |waits| *waits).expect("no panic"));
            }
            Step::SyncFile(_) | Step::SyncDirectory(_) | Step::SyncAll => {
                self.syncs.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Disk {
    fn hold(&self, waits: bool) {
        *self.waits.lock().expect("no panic") = waits;
        self.changed.notify_all();
    }

    fn counts(&self) -> [u64; 2] {
        [self.log_writes.load(Ordering::SeqCst), self.syncs.load(Ordering::SeqCst)]
    }
}

/// A well-known object for each number.
fn nonce(number: u64) -> [u8; 16] {
    let mut nonce = *b"counted object 0";
    nonce[15] += number as u8;
    nonce
}

fn add<'g>(
    tx: &mut Tx<'g, HostedBackend>,
    guard: &'g Guard<'_, HostedBackend>,
    number: u64,
) -> Result<(), Error> {
    let word = guard.well_known::<u64>(nonce(number))?.base();
    tx.edit(word, |value| *value += 1)
}

/// What a transaction does.
type Change<'c> =
    &'c dyn for<'g> Fn(&mut Tx<'g, HostedBackend>, &'g Guard<'_, HostedBackend>) -> Result<(), Error>;

/// So many threads commit, once each, in these programs in turn, while the log's write of the first one goes on: then the others have one write
/// together, if they can.
fn together(programs: &[Store], disk: &Disk, threads: u64, object_of: impl Fn(u64) -> u64 + Sync) {
    disk.hold(true);
    let before = disk.counts()[0];
    let commit = |thread: u64| {
        let guard = programs[thread as usize % programs.len()].enter();
        guard.transact(|tx| add(tx, &guard, object_of(thread))).expect("committed");
    };
    let commit = &commit;
    thread::scope(|scope| {
        scope.spawn(move || commit(0));
        while disk.counts()[0] == before {
            thread::sleep(Duration::from_millis(1));
        }
        (1..threads).for_each(|thread| {
            scope.spawn(move || commit(thread));
        });
        // All the others have logged when the log grows no more.
        let mut last = 0;
        loop {
            thread::sleep(Duration::from_millis(200));
            let now = programs[0].backend().log_bytes_in_use();
            if now == last {
                break;
            }
            last = now;
        }
        disk.hold(false);
    });
}

#[test]
fn commits_cost_exactly_what_the_documentation_says() {
    let keep = tempfile::tempdir().expect("a temporary directory");
    let disk = Arc::new(Disk::default());
    let options = Options::new().log_bytes(1 << 20).observer(disk.clone());
    let store = options.clone().create(keep.path().join("store")).expect("new");
    for number in 0..COMMITTERS {
        let guard = store.enter();
        guard.well_known::<u64>(nonce(number)).expect("made");
        // The first record of a store begins the log.
        guard.transact(|tx| add(tx, &guard, number)).expect("committed");
    }
    // What is written in place to an object that is newer has its name synced as well.
    store.backend().checkpoint().expect("works");
    let one = |change: Change<'_>| {
        let guard = store.enter();
        match guard.transact(|tx| change(tx, &guard)) {
            Ok(()) | Err(Error::Interrupted) => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    // As far as locks go, programs of their own.
    let open = || options.clone().open(keep.path().join("store")).expect("shared");
    let programs = [open(), open(), open(), open()];
    let alone = std::slice::from_ref(&store);
    let mut found = String::new();
    let mut row = |name: &str, run: &dyn Fn()| {
        let before = disk.counts();
        run();
        let [writes, syncs] = disk.counts();
        writeln!(found, "  | {name} | {} | {} |", writes - before[0], syncs - before[1])
            .expect("a string takes it");
    };
    row("nothing, or a transaction that only reads", &|| {
        one(&|_, _| Ok(()));
        one(&|tx, guard| {
            let value = tx.get(guard.well_known::<u64>(nonce(0))?.base());
            assert_eq!(value, 1, "as the beginning has left it");
            Ok(())
        });
    });
    row("8 bytes", &|| one(&|tx, guard| add(tx, guard, 0)));
    row("8 bytes in each of 16 objects", &|| one(&|tx, guard| (0..16).try_for_each(|n| add(tx, guard, n))));
    row("allocate 64 KiB, which are staged", &|| {
        one(&|tx, guard| {
            let object = guard.well_known::<u64>(nonce(0))?;
            tx.alloc_span::<u64>(object.area(), 8192).map(drop)
        });
    });
    row("allocate 1 MiB, which are written in place", &|| {
        one(&|tx, guard| {
            let object = guard.well_known::<u64>(nonce(0))?;
            tx.alloc_span::<u64>(object.area(), 131_072).map(drop)
        });
    });
    row("an error: all is undone", &|| {
        one(&|tx, guard| {
            add(tx, guard, 0)?;
            Err(Error::Interrupted)
        });
    });
    row("16 threads commit, each to an object of its own, while the disk writes for the first", &|| {
        together(alone, &disk, COMMITTERS, |thread| thread);
    });
    row("the same, all to one object", &|| together(alone, &disk, COMMITTERS, |_| 0));
    row("4 programs commit, each to an object of its own, while the disk writes for the first", &|| {
        together(&programs, &disk, 4, |thread| thread);
    });
    row("the same, all to one object: it is handed over when it is in place", &|| {
        together(&programs, &disk, 4, |_| 0)
    });
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/programming.md"));
    assert!(
        page.expect("the page is there").contains(&found),
        "docs/programming.md has other numbers than\n{found}"
    );
}

/// The host's flag `__O_SYNC`, which makes of `O_DSYNC` an `O_SYNC`.
const SYNCS_TIMES_TOO: u32 = 0o4_000_000;

#[test]
fn a_write_of_the_log_makes_that_durable_and_nothing_else() {
    let keep = tempfile::tempdir().expect("a temporary directory");
    let path = keep.path().join("store");
    let _store = Options::new().observer(Arc::new(Disk::default())).create(&path).expect("new");
    let mut durable = 0;
    for entry in std::fs::read_dir("/proc/self/fd").expect("there").flatten() {
        if !std::fs::read_link(entry.path()).is_ok_and(|file| file == path.join("log")) {
            continue;
        }
        let info = std::path::Path::new("/proc/self/fdinfo").join(entry.file_name());
        let info = std::fs::read_to_string(info).expect("still open");
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("always there");
        let flags = u32::from_str_radix(flags.trim(), 8).expect("octal");
        assert_eq!(flags & SYNCS_TIMES_TOO, 0, "each write would commit the file system's journal");
        durable += u32::from(flags & libc::O_DSYNC as u32 != 0);
    }
    assert_eq!(durable, 1, "one to write by, one to read by");
}
