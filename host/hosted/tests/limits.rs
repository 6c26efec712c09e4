//! What goes wrong around a store, and the answer to each.

mod common;

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use common::{logged, make, place, value};
use rustix::process::{Resource, Rlimit, setrlimit};
use twizzler::{Access, Backend, Durability, Error, Mode, ObjId, Observer, Options, Step, Store, StoreError};

fn kept() -> Options {
    Options::new().durability(Durability::ProcessKill).log_bytes(1 << 20)
}

/// Runs a test of this file that is ignored otherwise, in a process of its own.
fn alone(test: &str) -> Output {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .expect("this test runs")
}

#[test]
#[ignore = "dies; is started by the other tests"]
fn reads_a_file_that_was_cut_short() {
    let (_keep, path) = place();
    let store = kept().create(&path).expect("new");
    let id = make(&store, 7);
    let file = fs::OpenOptions::new().write(true).open(path.join("objects").join(id.to_string()));
    file.expect("there").set_len(0).expect("cut");
    println!("survived with {}", value(&store, id));
}

#[test]
fn a_file_that_is_cut_short_stops_the_program_with_words() {
    let output = alone("reads_a_file_that_was_cut_short");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(7), "SIGBUS; {said}");
    assert!(said.contains("cut short") && said.contains("offset 0x"), "{said}");
}

#[test]
#[ignore = "takes address space away; is started by the other tests"]
fn has_no_address_space() {
    let (_keep, path) = place();
    let store = kept().create(&path).expect("new");
    let id = make(&store, 7);
    let backend = store.backend();
    let limit = 64 << 20;
    setrlimit(Resource::As, Rlimit { current: Some(limit), maximum: Some(limit) }).expect("lowered");
    assert_eq!(backend.map(id, twizzler::Rights::READ), Err(Error::OutOfMemory));
    println!("answered");
}

#[test]
fn no_address_space_is_out_of_memory() {
    let output = alone("has_no_address_space");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "takes all files away; is started by the other tests"]
fn has_no_files_left() {
    let (_keep, path) = place();
    let store = logged().create(&path).expect("new");
    let ids: Vec<ObjId> = (0..3).map(|value| make(&store, value)).collect();
    let next = fs::File::open("/").expect("a file");
    let limit = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
    drop(next);
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).expect("lowered");
    assert!(fs::File::open("/").is_err());
    // Objects and their names are to be synced, the one with the file and the other with its directory.
    store.backend().checkpoint().expect("needs no file");
    assert_eq!(store.backend().log_bytes_in_use(), 0);
    let changed = store.transact(|tx| {
        let place = tx.open::<u64>(ids[1], Access::Write)?.base();
        tx.set(place, 7)
    });
    changed.expect("the store is as it was");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("raised");
    store.close().expect("closes");
    assert_eq!(value(&logged().open(&path).expect("closed in order"), ids[1]), 7);
}

#[test]
fn a_checkpoint_needs_no_files() {
    let output = alone("has_no_files_left");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "takes all mappings; is started by the other tests"]
fn has_no_mappings_left() {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    let (_keep, path) = place();
    let store = kept().create(&path).expect("new");
    let id = make(&store, 7);
    for n in 0.. {
        // Neighbours of different rights are mappings of their own.
        let rights = if n % 2 == 0 { ProtFlags::READ } else { ProtFlags::WRITE };
        // SAFETY: a new mapping where the host likes it, which nobody uses.
        if unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, rights, MapFlags::PRIVATE) }.is_err() {
            break;
        }
    }
    assert_eq!(store.backend().map(id, twizzler::Rights::READ), Err(Error::TooMany));
}

#[test]
fn no_mappings_left_is_too_many() {
    let output = alone("has_no_mappings_left");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "forks; is started by the other tests"]
fn goes_on_in_a_child() {
    let (_keep, path) = place();
    let store = kept().create(&path).expect("new");
    let id = make(&store, 7);
    // SAFETY: the child uses only what the library offers, and leaves at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let spec = twizzler_abi::call::CreateSpec {
            nonce: [9; 16],
            owner: ObjId::NONE,
            flags: 1,
            default_rights: 3,
            fingerprint: 0,
        };
        let answers = [
            store.backend().create(&spec) == Err(Error::NotSupported),
            store.backend().map(id, twizzler::Rights::READ) == Err(Error::NotSupported),
            store.backend().delete(id) == Err(Error::NotSupported),
            store.transact(|tx| tx.create::<u64>().map(drop)) == Err(Error::NotSupported),
        ];
        drop(store);
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(if answers == [true; 4] { 42 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: our child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 42);
    // The parent isn't disturbed.
    assert_eq!(value(&store, make(&store, 8)), 8);
    drop(store);
    assert_eq!(value(&kept().open(&path).expect("closed in order"), id), 7);
}

#[test]
fn a_forked_child_is_told_so() {
    let output = alone("goes_on_in_a_child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn change(path: &Path, file: &str, change: impl FnOnce(&mut [u8])) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path.join(file)).expect("there");
    let mut bytes = vec![0; 8192.min(file.metadata().expect("there").len() as usize)];
    file.read_exact_at(&mut bytes, 0).expect("read");
    change(&mut bytes);
    file.write_all_at(&bytes, 0).expect("written");
}

#[test]
fn a_machine_that_went_down_has_lost_a_store_for_process_kill() {
    let (_keep, path) = place();
    drop(kept().create(&path).expect("new"));
    change(&path, "store", |bytes| {
        bytes[64..80].fill(7); // open in another boot
        let sum = crc32fast::hash(&bytes[..508]);
        bytes[508..512].copy_from_slice(&sum.to_le_bytes());
    });
    assert!(matches!(kept().open(&path), Err(StoreError::Lost)));
}

#[test]
fn a_store_that_others_hold_unseen_is_in_use() {
    let (_keep, path) = place();
    drop(kept().create(&path).expect("new"));
    let objects = fs::File::open(path.join("objects")).expect("there");
    rustix::fs::flock(&objects, rustix::fs::FlockOperation::LockShared).expect("free");
    assert!(matches!(kept().open(&path), Err(StoreError::InUse { .. })));
    drop(objects);
    drop(kept().open(&path).expect("free again"));
}

#[test]
fn processes_that_want_different_things_do_not_share() {
    let (_keep, path) = place();
    let _first = logged().create(&path).expect("new");
    let other = kept().open(&path);
    assert!(matches!(other, Err(StoreError::Durability { store: Durability::PowerCut, .. })), "{other:?}");
    drop(logged().open(&path).expect("the same"));
}

#[test]
fn a_log_without_a_head_is_damage() {
    let (_keep, path) = place();
    drop(logged().create(&path).expect("new"));
    change(&path, "log", |bytes| bytes[..4096].fill(1));
    drop(logged().open(&path).expect("the other copy is sound"));
    change(&path, "log", |bytes| bytes.fill(1));
    assert!(matches!(logged().open(&path), Err(StoreError::Damaged { .. })));
}

#[test]
fn who_may_only_read_can_not_recover() {
    let (keep, path) = place();
    let store = logged().create(&path).expect("new");
    let id = make(&store, 9);
    // As a power cut leaves it, but for what the disk loses.
    let copy = keep.path().join("copy");
    let copied = Command::new("cp").args(["-r", "--sparse=always"]).args([&path, &copy]).status();
    assert!(copied.expect("cp runs").success());
    assert!(matches!(logged().mode(Mode::Read).open(&copy), Err(StoreError::NeedsRecovery)));
    let recovered = logged().open(&copy).expect("recovers");
    assert!(recovered.backend().replayed().records > 0);
    assert_eq!(value(&recovered, id), 9);
    drop(recovered);
    assert_eq!(value(&logged().mode(Mode::Read).open(&copy).expect("whole"), id), 9);
}

#[derive(Debug)]
struct ReadOnlyDisk;

impl Observer for ReadOnlyDisk {
    fn before(&self, _: Step<'_>) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EROFS))
    }
}

#[test]
fn a_read_only_file_system_is_named() {
    let (_keep, path) = place();
    drop(kept().create(&path).expect("new"));
    let options = kept().observer(Arc::new(ReadOnlyDisk));
    assert!(matches!(options.open(&path), Err(StoreError::ReadOnly)));
}

#[test]
fn objects_of_other_programs_in_the_directory_do_no_harm() {
    let (_keep, path) = place();
    let store = kept().create(&path).expect("new");
    let id = make(&store, 5);
    let objects = path.join("objects");
    fs::write(objects.join("readme"), "not an object").expect("written");
    fs::write(objects.join(ObjId::new(77).to_string()), "too short to be one").expect("written");
    assert_eq!(store.objects().expect("listed").iter().filter(|&&found| found == id).count(), 1);
    assert!(matches!(store.enter().open_any(ObjId::new(77), Access::Read), Err(Error::Damaged)));
}

/// Fails every sync of an object.
#[derive(Debug)]
struct NoSync;

impl Observer for NoSync {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        match step {
            Step::SyncFile(path) if path.starts_with("objects/") => {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn closing_says_what_failed_and_loses_nothing() {
    let (_keep, path) = place();
    let store = Options::new().log_bytes(1 << 20).observer(Arc::new(NoSync)).create(&path).expect("new");
    let id = make(&store, 6);
    assert!(matches!(store.close(), Err(StoreError::System(Error::ReadOnly))));
    let store = logged().open(&path).expect("recovers");
    assert!(store.backend().replayed().records > 0);
    assert_eq!(value(&store, id), 6);
    store.close().expect("closes");
}

#[test]
fn children_that_are_being_started_do_not_keep_a_store_open() {
    let (_keep, path) = place();
    drop(kept().create(&path).expect("new"));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                Command::new("true").status().expect("runs");
            }
        });
        let results: Vec<_> = (0..300).map(|_| kept().open(&path).map(drop)).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|result| result.is_err()));
    });
}

/// A memory cgroup of its own, where the test may make one; it goes with the value.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn new(limit_bytes: u64) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("twizzler-test-{}", std::process::id());
        let (path, limit) = if root.join("cgroup.controllers").exists() {
            (root.join(name), "memory.max")
        } else {
            (root.join("memory").join(name), "memory.limit_in_bytes")
        };
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        fs::write(group.0.join(limit), limit_bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Empty, as its process has ended.
        let _ = fs::remove_dir(&self.0);
    }
}

const GROUP: &str = "TWIZZLER_TEST_CGROUP";

#[test]
#[ignore = "limits its memory; is started by the other tests"]
fn works_in_little_memory() {
    const PART: usize = 1 << 20;
    const PARTS: u64 = 64;
    let group = std::env::var(GROUP).expect("the test sets it");
    fs::write(Path::new(&group).join("cgroup.procs"), std::process::id().to_string()).expect("may enter");
    let keep = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("room");
    let store = kept().create(keep.path().join("store")).expect("new");
    let id = make(&store, 7);
    let mut parts = Vec::new();
    for number in 0..PARTS {
        let content = vec![number as u8; PART];
        let offset = store.transact(|tx| {
            let area = tx.open_any(id, Access::Write)?;
            let bytes = tx.alloc_bytes(area, &content)?;
            Ok::<_, Error>(bytes.index(0).ok_or(Error::Damaged)?.offset())
        });
        parts.push(offset.expect("the disk has room"));
    }
    let guard = store.enter();
    let area = guard.open_any(id, Access::Read).expect("there");
    for (number, offset) in parts.into_iter().enumerate() {
        let mut content = vec![0; PART];
        guard.read(area.span(offset, PART as u64).expect("within"), 0, &mut content).expect("there");
        assert!(content.iter().all(|&byte| byte == number as u8), "part {number}");
    }
}

/// Objects are page cache, which the host writes back and drops.
#[test]
fn a_store_larger_than_the_memory_groups_limit_works() {
    // Without the right to make groups, there is nothing to be tested.
    let Some(group) = MemoryGroup::new(24 << 20) else { return };
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "works_in_little_memory", "--ignored", "--nocapture"])
        .env(GROUP, &group.0)
        .output()
        .expect("this test runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where the coordination segments of a store and its copies lie; None where there is no place for such.
fn segments_of(store: &Store) -> Option<Vec<PathBuf>> {
    let uuid = u128::from_be_bytes(store.backend().description().expect("described").uuid);
    let prefix = format!("twizzler-segment-{uuid:032x}-");
    let entries = fs::read_dir("/dev/shm").ok()?.flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    Some(ours.map(|entry| entry.path()).collect())
}

#[test]
#[ignore = "dies; is started by the other tests"]
fn dies_with_a_store_open() {
    let (_keep, path) = place();
    let store = kept().create(&path).expect("new");
    println!("segment {}", segments_of(&store).expect("there is a place")[0].display());
    std::process::abort();
}

#[test]
fn segments_of_the_dead_are_swept_by_whoever_opens_another_store() {
    let (_keep, path) = place();
    let store = kept().create(&path).expect("new");
    // Where segments lie in their stores, they go with them.
    let Some(living) = segments_of(&store) else { return };
    let output = alone("dies_with_a_store_open");
    let said = String::from_utf8_lossy(&output.stdout);
    let dead = said.lines().find_map(|line| line.split_once("segment ")).expect("it says where").1;
    drop(kept().create(path.with_file_name("another")).expect("new"));
    assert!(!Path::new(dead).exists(), "{dead} is still there");
    assert!(living[0].exists(), "the segment of an open store is gone");
}

#[test]
fn a_store_and_its_copy_are_two() {
    let (keep, path) = place();
    let store = kept().create(&path).expect("new");
    let id = make(&store, 1);
    store.close().expect("closes");
    let copy = keep.path().join("copy");
    let copied = Command::new("cp").args(["--sparse=always", "-r"]).args([&path, &copy]).status();
    assert!(copied.expect("cp runs").success());
    let (store, copy_store) = (kept().open(&path).expect("opens"), kept().open(&copy).expect("opens"));
    assert!(segments_of(&store).is_none_or(|segments| segments.len() == 2));
    let again = kept().open(&path).expect("shared");
    let set = |store: &Store, value: u64| {
        store.transact(|tx| {
            let place = tx.open::<u64>(id, Access::Write)?.base();
            tx.set(place, value)
        })
    };
    set(&copy_store, 3).expect("committed");
    set(&again, 2).expect("committed");
    assert_eq!((value(&store, id), value(&again, id), value(&copy_store, id)), (2, 2, 3));
}

/// A disk that has no room for anything new.
#[derive(Debug)]
struct Full;

impl Observer for Full {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        match step {
            Step::Create(_) | Step::SetLen(..) => Err(rustix::io::Errno::NOSPC.into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_store_on_a_full_disk_opens_loses_objects_and_closes() {
    for durability in [Durability::ProcessKill, Durability::PowerCut] {
        let (_keep, path) = place();
        let options = || logged().durability(durability);
        let store = options().create(&path).expect("new");
        let [kept, deleted] = [1, 2].map(|value| make(&store, value));
        store.close().expect("closes");
        let store = options().observer(Arc::new(Full)).open(&path).expect("opens without room");
        let changed = store.transact(|tx| {
            let object = tx.open::<u64>(kept, Access::Write)?;
            tx.set(object.base(), 3)?;
            tx.delete(deleted)
        });
        changed.expect("makes room");
        let made: Result<(), Error> = store.transact(|tx| tx.create::<u64>().map(drop));
        assert_eq!(made, Err(Error::OutOfNvm));
        store.close().expect("closes without room");
        let store = options().open(&path).expect("opens");
        assert_eq!(value(&store, kept), 3);
        let guard = store.enter();
        assert!(guard.open::<u64>(deleted, Access::Read).is_err());
    }
}
