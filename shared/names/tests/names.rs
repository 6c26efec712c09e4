//! Names against a model, and what happens to those that die with them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::collections::{BytesMap, MapRoot};
use twizzler_object::{Backend, Guard, Space, Tx};

fn change<'s, B: Backend, R>(
    guard: &'s Guard<'s, B>,
    names: Names<'s, B>,
    mut change: impl FnMut(&Names<'s, B>, &mut Tx<'s, B>) -> Result<R, NameError>,
) -> Result<R, NameError> {
    guard.transact(|tx| change(&names, tx))
}

#[test]
fn names_outlive_their_programs() {
    let backend = MemoryBackend::new();
    let id = {
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let names = Names::open(&guard).expect("open");
        change(&guard, names, |n, tx| n.make_directory(tx, "texts")).expect("made");
        change(&guard, names, |n, tx| n.create_any(tx, "texts/a").map(|area| space.id_of(area)))
            .expect("made")
    };
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    assert_eq!(names.lookup("/texts/a"), Ok(Entry::Object(id)));
    assert_eq!(names.lookup("texts"), Ok(Entry::Directory));
    assert_eq!(names.lookup(""), Ok(Entry::Directory));
    assert_eq!(names.list("").expect("listed"), [("texts".into(), Entry::Directory)]);
    assert_eq!(names.object("texts"), Err(NameError::IsADirectory));
    assert_eq!(names.lookup("texts/a/b"), Err(NameError::NotADirectory));
    assert_eq!(names.lookup("nothing"), Err(NameError::NoSuchName));
}

#[test]
fn creating_and_deleting_take_the_object_along() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    change(&guard, names, |n, tx| n.make_directory(tx, "first")).expect("made");
    let before = backend.ids();
    let undone = change(&guard, names, |n, tx| {
        n.create_any(tx, "a")?;
        n.create_any(tx, "b")?;
        n.create_any(tx, "a")
    });
    assert_eq!(undone.err(), Some(NameError::Exists));
    assert_eq!(backend.ids(), before);
    change(&guard, names, |n, tx| n.create_any(tx, "a").map(drop)).expect("made");
    let id = names.object("a").expect("there");
    assert!(backend.ids().contains(&id));
    assert_eq!(change(&guard, names, |n, tx| n.delete(tx, "a")), Ok(id));
    assert!(!backend.ids().contains(&id));
    assert_eq!(names.lookup("a"), Err(NameError::NoSuchName));
}

/// All names would go with it.
#[test]
fn the_names_are_not_deleted_by_a_name() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    let id = space.id_of(names.area());
    change(&guard, names, |n, tx| n.bind(tx, "all", id)).expect("bound");
    let refused = Err(NameError::System(Error::AccessDenied));
    assert_eq!(change(&guard, names, |n, tx| n.delete(tx, "all")), refused);
    assert_eq!(names.object("all"), Ok(id), "it has its name still");
    assert_eq!(change(&guard, names, |n, tx| n.unbind(tx, "all")), Ok(id));
}

#[test]
fn a_directory_cant_be_moved_into_itself() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    for path in ["a", "a/b", "a/b/c"] {
        change(&guard, names, |n, tx| n.make_directory(tx, path)).expect("made");
    }
    assert_eq!(change(&guard, names, |n, tx| n.rename(tx, "a", "a/b/d")), Err(NameError::IntoItself));
    assert_eq!(change(&guard, names, |n, tx| n.rename(tx, "a", "a")), Err(NameError::Exists));
    assert_eq!(change(&guard, names, |n, tx| n.rename(tx, "", "x")), Err(NameError::IsADirectory));
    assert_eq!(change(&guard, names, |n, tx| n.remove_directory(tx, "a/b")), Err(NameError::NotEmpty));
    change(&guard, names, |n, tx| n.rename(tx, "a/b", "b")).expect("moved");
    assert_eq!(names.lookup("b/c"), Ok(Entry::Directory));
    assert_eq!(names.list("a").expect("listed"), []);
}

/// Or its names could be neither looked up nor removed.
#[test]
fn nothing_is_moved_deeper_than_paths_reach() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    let deep = |top: &str, count: usize| format!("{top}{}", "/d".repeat(count));
    for count in 0..62 {
        change(&guard, names, |n, tx| n.make_directory(tx, &deep("a", count))).expect("made");
    }
    change(&guard, names, |n, tx| n.create_any(tx, &deep("a", 62)).map(drop)).expect("made");
    for path in ["b", "b/c"] {
        change(&guard, names, |n, tx| n.make_directory(tx, path)).expect("made");
    }
    assert_eq!(change(&guard, names, |n, tx| n.rename(tx, "a", "b/c/a")), Err(NameError::TooLong));
    change(&guard, names, |n, tx| n.rename(tx, "a", "b/a")).expect("moved");
    assert!(matches!(names.lookup(&deep("b/a", 62)), Ok(Entry::Object(_))));
    change(&guard, names, |n, tx| n.rename(tx, "b/a", "b/b")).expect("moved");
    change(&guard, names, |n, tx| n.rename(tx, "b/b", "a")).expect("moved");
    let tree = names.tree_by(&&guard, "").expect("listed");
    assert_eq!(tree.len(), 63 + 2);
    assert!(tree.iter().all(|(path, entry)| names.lookup(path) == Ok(*entry)));
    assert_eq!(names.tree_by(&&guard, "b"), Ok(vec![("c".into(), Entry::Directory)]));
}

/// An entry of the names' map, as anybody may write it.
fn forge(
    guard: &Guard<'_, &MemoryBackend>,
    names: Names<'_, &MemoryBackend>,
    (within, name): (u64, &str),
    to: u64,
) {
    // Behind the root's first two words.
    let map = BytesMap::new(names.area().place::<MapRoot>(BASE_OFFSET + 16).expect("there"));
    let key = [&within.to_be_bytes(), name.as_bytes()].concat();
    let mut value = [0; 24];
    (value[0], value[8]) = (2, to as u8);
    guard.transact(|tx| map.insert(tx, &key, &value).map(drop)).expect("room");
}

#[test]
fn directories_in_two_places_are_told_and_cost_no_more() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    // 2^40 paths, and none of them goes in a circle.
    change(&guard, names, |n, tx| n.make_directory(tx, "x")).expect("made");
    forge(&guard, names, (0, "a"), 10);
    for number in 10..50 {
        forge(&guard, names, (number, "a"), number + 1);
        forge(&guard, names, (number, "b"), number + 1);
    }
    assert_eq!(names.tree_by(&&guard, ""), Err(NameError::Tangled));
    assert_eq!(names.list("a/b").expect("listed").len(), 2);
    assert_eq!(change(&guard, names, |n, tx| n.rename(tx, "a", "x/a")), Err(NameError::Tangled));
}

#[test]
fn entries_that_no_path_can_name_are_damage() {
    for name in ["", ".", "..", "a/b", "\u{1b}[2J"] {
        let backend = MemoryBackend::new();
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let names = Names::open(&guard).expect("open");
        forge(&guard, names, (0, name), 7);
        assert_eq!(names.list(""), Err(NameError::System(Error::Damaged)), "{name:?}");
    }
}

#[test]
fn directories_may_be_large() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    change(&guard, names, |n, tx| n.make_directory(tx, "d")).expect("made");
    for i in 0..5_000u128 {
        change(&guard, names, |n, tx| n.bind(tx, &format!("d/name-{i:05}"), ObjId::new(i + 1)))
            .expect("bound");
    }
    let list = names.list("d").expect("listed");
    assert_eq!(list.len(), 5_000);
    assert!(list.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert_eq!(names.object("d/name-04321"), Ok(ObjId::new(4322)));
}

#[test]
fn a_full_nvm_undoes_the_change() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let names = Names::open(&guard).expect("open");
    change(&guard, names, |n, tx| n.make_directory(tx, "d")).expect("made");
    for room in 0..12 {
        backend.set_room(room);
        let before = backend.ids();
        let result = change(&guard, names, |n, tx| {
            let area = n.create_any(tx, "d/big")?;
            Ok(tx.write_at(area, 0, &[7; 9 * 4096])?)
        });
        if result.is_ok() {
            assert!(room >= 10, "9 pages and the header's and metadata's");
            return;
        }
        assert_eq!(result, Err(NameError::System(Error::OutOfNvm)));
        assert_eq!(backend.ids(), before);
        assert_eq!(names.list("d").expect("listed"), []);
    }
    panic!("never room enough");
}

#[derive(Clone, Debug)]
enum Step {
    Directory(String),
    Bind(String),
    Unbind(String),
    RemoveDirectory(String),
    Rename(String, String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof!["a", "b", "c"], 1..4).prop_map(|names| names.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        path().prop_map(Step::Directory),
        path().prop_map(Step::Bind),
        path().prop_map(Step::Unbind),
        path().prop_map(Step::RemoveDirectory),
        (path(), path()).prop_map(|(a, b)| Step::Rename(a, b)),
    ]
}

/// Path to object, or to None for a directory.
type Model = BTreeMap<String, Option<ObjId>>;

fn parent_is_directory(model: &Model, path: &str) -> bool {
    path.rsplit_once('/').is_none_or(|(parent, _)| model.get(parent) == Some(&None))
}

fn inside(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// What the model does with a step; false: refuses it.
fn apply(model: &mut Model, step: &Step, id: ObjId) -> bool {
    match step {
        Step::Directory(path) | Step::Bind(path) => {
            let fits = parent_is_directory(model, path) && !model.contains_key(path);
            if fits {
                model.insert(path.clone(), matches!(step, Step::Bind(_)).then_some(id));
            }
            fits
        }
        Step::Unbind(path) => matches!(model.get(path), Some(Some(_))) && model.remove(path).is_some(),
        Step::RemoveDirectory(path) => {
            model.get(path) == Some(&None)
                && !model.keys().any(|other| inside(other, path))
                && model.remove(path).is_some()
        }
        Step::Rename(from, to) => {
            let fits = model.contains_key(from)
                && parent_is_directory(model, to)
                && !model.contains_key(to)
                && !inside(to, from);
            if fits {
                let moved = |path: &String| path == from || inside(path, from);
                let old: Vec<_> = model.keys().filter(|path| moved(path)).cloned().collect();
                for path in old {
                    let what = model.remove(&path).expect("was there");
                    model.insert(format!("{to}{}", &path[from.len()..]), what);
                }
            }
            fits
        }
    }
}

fn all<B: Backend>(names: Names<'_, B>, directory: &str, into: &mut Model) {
    for (name, entry) in names.list(directory).expect("a directory") {
        let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
        match entry {
            Entry::Object(id) => drop(into.insert(path, Some(id))),
            Entry::Directory => {
                all(names, &path, into);
                into.insert(path, None);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn names_are_a_tree(steps in prop::collection::vec(step(), 0..60)) {
        let backend = MemoryBackend::new();
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let names = Names::open(&guard).expect("open");
        let mut model = Model::new();
        for (i, step) in steps.iter().enumerate() {
            let id = ObjId::new(i as u128 + 1);
            let result = change(&guard, names, |n, tx| match step {
                Step::Directory(path) => n.make_directory(tx, path),
                Step::Bind(path) => n.bind(tx, path, id),
                Step::Unbind(path) => n.unbind(tx, path).map(drop),
                Step::RemoveDirectory(path) => n.remove_directory(tx, path),
                Step::Rename(from, to) => n.rename(tx, from, to),
            });
            prop_assert_eq!(result.is_ok(), apply(&mut model, step, id), "{:?}: {:?}", step, result);
        }
        let mut seen = Model::new();
        all(names, "", &mut seen);
        prop_assert_eq!(seen, model);
    }
}
