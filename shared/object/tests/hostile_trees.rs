//! Ordered maps that another program wrote wrongly: whatever their nodes say, going through them ends.

use twizzler_abi::Error;
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{OrderedMap, OrderedMapRoot};
use twizzler_object::{Area, Guard, Ptr, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.hostile-trees", version = 1)]
#[repr(C)]
struct Root {
    map: OrderedMapRoot<u64, u64>,
}

type G<'g, 'b> = Guard<'g, &'b MemoryBackend>;
/// A node of such a map.
type Node = [u64; 128];
/// Where in the root the version is, and in a node above the leaves the children.
const VERSION: u64 = 56;
const CHILDREN: usize = 520 / 8;

/// Runs something with an empty map.
fn with_map(look: impl for<'g> FnOnce(&'g G<'_, '_>, Ptr<'g, Root>)) {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = guard.transact(|tx| tx.create::<Root>()).expect("made").base();
    look(&guard, root);
}

fn add<'g>(guard: &'g G<'_, '_>, area: Area<'g>, node: Node) -> u64 {
    let made = guard.transact(|tx| tx.alloc::<Node>(area).and_then(|at| tx.set(at, node).map(|()| at)));
    made.expect("made").offset()
}

/// A node of a level, with so many entries, and these children.
fn node(level: u64, len: u64, child: u64) -> Node {
    let mut node = [0; 128];
    node[..2].copy_from_slice(&[level | len << 16, 1]);
    // Behind the head, which is longer in a leaf.
    let keys = if level > 0 { 4 } else { 8 };
    (0..len as usize).for_each(|n| node[keys + n] = n as u64);
    if level > 0 {
        node[CHILDREN..][..len as usize].fill(child);
    }
    node
}

/// Makes a tree of the highest level, each node of which has the same child so many times, down to a leaf with so many entries.
fn narrow_tree<'g>(guard: &'g G<'_, '_>, root: Ptr<'g, Root>, children: u64, entries: u64) {
    let area = root.object();
    let leaf = add(guard, area, node(0, entries, 0));
    let top = (1..24).fold(leaf, |child, level| add(guard, area, node(level, children, child)));
    let put = guard.transact(|tx| {
        let mut set = |at: u64, word: u64| tx.set(area.place(root.offset() + at).expect("within"), word);
        // The state of odd versions is the second.
        set(24, top)?;
        set(32, u64::MAX)?;
        set(VERSION, 1)
    });
    put.expect("put");
}

#[test]
fn a_tree_that_is_wider_than_its_object_ends() {
    for entries in [0, 1, 8] {
        with_map(|guard, root| {
            narrow_tree(guard, root, 40, entries);
            let map = OrderedMap::new(root.at(Root::map));
            let end = if entries == 0 { 0 } else { entries as usize };
            let forwards: Vec<_> = map.iter(&guard).collect();
            assert_eq!((forwards.len(), forwards.last()), (end + 1, Some(&Err(Error::Damaged))));
            let backwards: Vec<_> = map.iter(&guard).rev().collect();
            assert_eq!((backwards.len(), backwards.last()), (end + 1, Some(&Err(Error::Damaged))));
            assert_eq!(guard.transact(|tx| map.clear(tx)), Err(Error::Damaged));
            assert_eq!(guard.transact(|tx| map.merge_sorted(tx, &[(7, 7)])), Err(Error::Damaged));
            assert_eq!(guard.transact(|tx| map.retain(tx, |_, _| true)), Err(Error::Damaged));
            let shown = guard.dump(root.object(), 100).expect("readable").expect("described").to_string();
            assert!(shown.len() < 4096, "{shown}");
        });
    }
}

#[test]
fn a_cursor_that_meets_damage_is_at_no_entry() {
    with_map(|guard, root| {
        let map = OrderedMap::new(root.at(Root::map));
        guard.transact(|tx| (0..300).try_for_each(|n| map.insert(tx, n, n).map(drop))).expect("filled");
        let state = if word(guard, root, VERSION) & 1 == 0 { 0 } else { 24 };
        let top = word(guard, root, state) - root.offset();
        // Another child than the first leads nowhere.
        put(guard, root, top + CHILDREN as u64 * 8 + 16, 8);
        let mut cursor = map.cursor(&guard).expect("whole");
        assert_eq!((cursor.move_next(), cursor.key()), (Ok(true), Ok(Some(0))));
        let moved = std::iter::from_fn(|| Some(cursor.move_next())).find(Result::is_err);
        assert_eq!(moved, Some(Err(Error::Damaged)));
        assert_eq!((cursor.key(), cursor.value()), (Ok(None), Ok(None)));
        assert_eq!((cursor.move_next(), cursor.key()), (Ok(true), Ok(Some(0))), "from none, to the first");
        assert_eq!((cursor.seek(&120), cursor.key()), (Err(Error::Damaged), Ok(None)));
        assert_eq!((cursor.move_previous(), cursor.key()), (Ok(true), Ok(Some(299))));
    });
}

fn word<'g>(guard: &'g G<'_, '_>, root: Ptr<'g, Root>, at: u64) -> u64 {
    guard.get(root.object().place(root.offset() + at).expect("within"))
}

fn put<'g>(guard: &'g G<'_, '_>, root: Ptr<'g, Root>, at: u64, word: u64) {
    let place = root.object().place(root.offset() + at).expect("within");
    guard.transact(|tx| tx.set(place, word)).expect("put");
}
