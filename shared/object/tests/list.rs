//! A linked list on the foundations: the smallest structure that allocates, links, follows and frees.

use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{Access, Backend, InvPtr, Ptr, Reader, Space, Stored, Tx};

/// Root of a list.
#[derive(Stored)]
#[stored(name = "test.list", version = 1)]
#[repr(C)]
struct List {
    /// The first node.
    first: InvPtr<Node>,
    /// How many there are.
    len: u64,
}

/// A node.
#[derive(Stored)]
#[stored(name = "test.node", version = 1)]
#[repr(C)]
struct Node {
    /// The next one.
    next: InvPtr<Node>,
    /// What it holds.
    value: u64,
}

fn push<'s, B: Backend>(tx: &mut Tx<'s, B>, list: Ptr<'s, List>, value: u64) -> Result<(), Error> {
    tx.lock(list.object())?;
    let node = tx.alloc::<Node>(list.object())?;
    let first = tx.follow(list.at(List::first))?;
    tx.link(node.at(Node::next), first)?;
    tx.set(node.at(Node::value), value)?;
    tx.link(list.at(List::first), Some(node))?;
    tx.set(list.at(List::len), tx.get(list.at(List::len)) + 1)
}

fn pop<'s, B: Backend>(tx: &mut Tx<'s, B>, list: Ptr<'s, List>) -> Result<Option<u64>, Error> {
    tx.lock(list.object())?;
    let Some(node) = tx.follow(list.at(List::first))? else { return Ok(None) };
    let value = tx.get(node.at(Node::value));
    let next = tx.follow(node.at(Node::next))?;
    tx.link(list.at(List::first), next)?;
    tx.set(list.at(List::len), tx.get(list.at(List::len)) - 1)?;
    tx.free(node)?;
    Ok(Some(value))
}

fn values<'s>(reader: &impl Reader<'s>, list: Ptr<'s, List>) -> Vec<u64> {
    let mut values = Vec::new();
    let mut next = reader.follow(list.at(List::first)).expect("a good pointer");
    while let Some(node) = next {
        values.push(reader.get(node.at(Node::value)));
        next = reader.follow(node.at(Node::next)).expect("a good pointer");
    }
    values
}

fn new_list(backend: &MemoryBackend) -> ObjId {
    let space = Space::attach(backend).expect("attach");
    space.transact(|tx| tx.create::<List>().map(|list| tx.space().id_of(list.area()))).expect("create")
}

#[test]
fn a_list_outlives_its_programs() {
    let backend = MemoryBackend::new();
    let id = new_list(&backend);
    for round in 0..3 {
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let list = guard.open::<List>(id, Access::Write).expect("open").base();
        for i in 0..100 {
            guard.transact(|tx| push(tx, list, round * 100 + i)).expect("push");
        }
    }
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let list = guard.open::<List>(id, Access::Write).expect("open").base();
    assert_eq!(values(&&guard, list), (0..300).rev().collect::<Vec<_>>());
    while guard.transact(|tx| pop(tx, list)).expect("pop").is_some() {}
    assert_eq!(guard.get(list.at(List::len)), 0);
}

#[test]
fn a_transaction_sees_its_own_changes_and_nobody_else_does_before_the_commit() {
    let backend = MemoryBackend::new();
    let id = new_list(&backend);
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let list = guard.open::<List>(id, Access::Write).expect("open").base();
    let mut tx = guard.begin().expect("begin");
    for i in 0..10 {
        push(&mut tx, list, i).expect("push");
    }
    assert_eq!(pop(&mut tx, list), Ok(Some(9)));
    assert_eq!(values(&tx, list).len(), 9);
    assert_eq!(values(&&guard, list).len(), 0);
    tx.commit().expect("commit");
    assert_eq!(values(&&guard, list), (0..9).rev().collect::<Vec<_>>());
}

#[test]
fn an_undone_transaction_leaves_nothing_behind() {
    let backend = MemoryBackend::new();
    let id = new_list(&backend);
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let list = guard.open::<List>(id, Access::Write).expect("open").base();
    guard.transact(|tx| push(tx, list, 1)).expect("push");
    let before = backend.ids();
    let mut tx = guard.begin().expect("begin");
    push(&mut tx, list, 2).expect("push");
    let other = tx.create::<List>().expect("create").base();
    push(&mut tx, other, 3).expect("push");
    let node = tx.follow(other.at(List::first)).expect("good");
    tx.link(list.at(List::first), node).expect("link");
    tx.abort();
    assert_eq!(backend.ids(), before);
    assert_eq!(values(&&guard, list), [1]);
    guard.transact(|tx| push(tx, list, 4)).expect("push");
    assert_eq!(values(&&guard, list), [4, 1]);
}

#[test]
fn lists_reach_across_objects() {
    let backend = MemoryBackend::new();
    let ids: Vec<_> = (0..20).map(|_| new_list(&backend)).collect();
    {
        let space = Space::attach(&backend).expect("attach");
        let guard = space.enter();
        let list = guard.open::<List>(ids[0], Access::Write).expect("open").base();
        for value in 0..200 {
            let near = guard.open::<List>(ids[value as usize % 20], Access::Write).expect("open").area();
            guard
                .transact(|tx| {
                    tx.lock(list.object())?;
                    let node = tx.alloc::<Node>(near)?;
                    let first = tx.follow(list.at(List::first))?;
                    tx.link(node.at(Node::next), first)?;
                    tx.set(node.at(Node::value), value)?;
                    tx.link(list.at(List::first), Some(node))?;
                    assert_eq!(tx.follow(list.at(List::first))?, Some(node));
                    Ok::<_, Error>(())
                })
                .expect("push");
        }
    }
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let list = guard.open::<List>(ids[0], Access::Read).expect("open").base();
    assert_eq!(values(&&guard, list), (0..200).rev().collect::<Vec<_>>());
}

#[test]
fn opening_as_another_type_names_both() {
    let backend = MemoryBackend::new();
    let id = new_list(&backend);
    let space = Space::attach(&backend).expect("attach");
    let guard = space.enter();
    let error = guard.open::<Node>(id, Access::Read).expect_err("a list is no node");
    assert_eq!(error.to_string(), "wrong type: it holds test.list, not test.node of this version");
}
