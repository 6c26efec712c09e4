//! Stores on devices whose mappings are durable once stores have left the CPU's caches (DAX), as far as that can be had without one: the host is
//! pretended to have said so, and everything is done as for one. That flushes and fences suffice is the simulator's to show.

mod common;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use common::{make, place, value};
use twizzler::{Access, Durability, Observer, Options, Step, StoreError};

/// Says that mappings are direct, and notes what is done.
#[derive(Debug, Default)]
struct Direct(Mutex<Vec<String>>);

impl Observer for Direct {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        let step = match step {
            Step::Create(path) if path.starts_with("new/") => "create".to_owned(),
            Step::SyncFile(path) if path.starts_with("new/") => "sync it".to_owned(),
            Step::SyncDirectory(path) => format!("sync {path}"),
            Step::Rename(from, to) if from.starts_with("new/") && to.starts_with("objects/") => {
                "rename".to_owned()
            }
            Step::WriteDurably(path, ..) => format!("write {path} durably"),
            _ => return Ok(()),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
        Ok(())
    }

    fn is_direct(&self) -> Option<bool> {
        Some(true)
    }
}

impl Direct {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[test]
fn commits_need_no_log_and_names_are_durable_before_anything_leads_to_them() {
    let (_keep, path) = place();
    let direct = Arc::new(Direct::default());
    let store = Options::new().observer(direct.clone()).create(&path).expect("new");
    assert!(!store.backend().is_logged());
    make(&store, 1);
    direct.take();
    let id = make(&store, 2);
    assert_eq!(direct.take(), ["create", "sync it", "sync new", "rename", "sync objects"]);
    let guard = store.enter();
    let object = guard.open::<u64>(id, Access::Write).expect("there");
    guard.transact(|tx| tx.set(object.base(), 3)).expect("room");
    assert_eq!(direct.take(), [""; 0], "a change waits for the CPU's caches alone");
}

#[test]
fn it_claims_to_survive_power_cuts_and_is_recovered_from_its_lanes() {
    let (_keep, path) = place();
    let options = Options::new().durability(Durability::PowerCut).observer(Arc::new(Direct::default()));
    let store = options.create(&path).expect("new");
    let id = make(&store, 5);
    // As a power cut leaves it: nothing of what the processes shared is there, and nobody has closed anything.
    let copy = path.with_file_name("copy");
    let copied =
        std::process::Command::new("cp").args(["-r", "--sparse=always"]).args([&path, &copy]).status();
    assert!(copied.expect("cp runs").success());
    drop(store);
    let store = options.open(&copy).expect("not lost, as a store for killed processes would be");
    assert_eq!(value(&store, id), 5);
    make(&store, 6);
    store.close().expect("closes");
    drop(options.open(&copy).expect("opens"));
}

#[test]
fn who_shares_it_must_be_told_the_same() {
    let (_keep, path) = place();
    let options = Options::new().observer(Arc::new(Direct::default()));
    let _store = options.create(&path).expect("new");
    #[derive(Debug)]
    struct Indirect;
    impl Observer for Indirect {
        fn before(&self, _: Step<'_>) -> io::Result<()> {
            Ok(())
        }
        fn is_direct(&self) -> Option<bool> {
            Some(false)
        }
    }
    let other = Options::new().observer(Arc::new(Indirect)).open(&path);
    assert!(matches!(other, Err(StoreError::Durability { .. })), "{other:?}");
}
