//! Linked lists in objects that point to each other: allocation, links within and between objects, and transactions over
//! several of them, with nothing else in between.

use std::fmt::Write as _;

use twizzler_abi::Error;
use twizzler_crashsim::Rng;
use twizzler_object::{Guard, InvPtr, Object, Ptr, Reader, Space, Stored, Tx};

use crate::objects::SimObjects;

/// A list.
#[derive(Stored)]
#[stored(name = "campaign.list", version = 1)]
#[repr(C)]
struct List {
    first: InvPtr<Node>,
    /// Another list, in another object.
    other: InvPtr<List>,
    len: u64,
}

/// A node. Nodes of a list may lie in either object.
#[derive(Stored)]
#[stored(name = "campaign.node", version = 1)]
#[repr(C)]
struct Node {
    next: InvPtr<Node>,
    value: u64,
}

/// A transaction on the lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Puts nodes before the others of list `.0`, allocated in object `.1`.
    Push(u8, u8, u64),
    /// Takes the first node out of list `.0`, and frees it.
    Pop(u8),
    /// Moves the first node of list `.0` to list `.1`.
    Move(u8, u8),
    /// Makes list `.0` point to list `.1`.
    Point(u8, u8),
    /// Pushes many nodes and gives up.
    GiveUp(u8),
}

impl Change {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let (a, b) = (rng.below(2) as u8, rng.below(2) as u8);
        match rng.below(6) {
            0 | 1 => Self::Push(a, b, 1 + rng.below(12)),
            2 => Self::Pop(a),
            3 => Self::Move(a, b),
            4 => Self::Point(a, b),
            _ => Self::GiveUp(a),
        }
    }

    pub(crate) fn apply(self, space: &Space<SimObjects<'_>>) -> Result<(), Error> {
        let guard = &space.enter();
        let list = |number: u8| open(guard, number).map(Object::base);
        match self {
            Self::Push(to, from, count) => {
                let (to, from) = (list(to)?, list(from)?);
                guard.transact(|tx| (0..count).try_for_each(|value| push(tx, to, from, value)))
            }
            Self::Pop(from) => {
                let from = list(from)?;
                guard.transact(|tx| match take(tx, from)? {
                    Some(node) => tx.free(node),
                    None => Ok(()),
                })
            }
            Self::Move(from, to) => {
                let (from, to) = (list(from)?, list(to)?);
                guard.transact(|tx| match take(tx, from)? {
                    Some(node) => put(tx, to, node),
                    None => Ok(()),
                })
            }
            Self::Point(from, to) => {
                let (from, to) = (list(from)?, list(to)?);
                guard.transact(|tx| tx.link(from.at(List::other), Some(to)))
            }
            Self::GiveUp(to) => {
                let to = list(to)?;
                let mut tx = guard.begin()?;
                (0..20).try_for_each(|value| push(&mut tx, to, to, value))?;
                tx.abort();
                Ok(())
            }
        }
    }
}

fn open<'s>(guard: &'s Guard<'_, SimObjects<'_>>, number: u8) -> Result<Object<'s, List>, Error> {
    let mut nonce = *b"campaign list  0";
    nonce[15] += number;
    guard.well_known::<List>(nonce)
}

fn push<'s>(
    tx: &mut Tx<'s, SimObjects<'_>>,
    to: Ptr<'s, List>,
    from: Ptr<'s, List>,
    value: u64,
) -> Result<(), Error> {
    tx.lock(to.object())?;
    let node = tx.alloc::<Node>(from.object())?;
    tx.set(node.at(Node::value), value)?;
    put(tx, to, node)
}

fn put<'s>(tx: &mut Tx<'s, SimObjects<'_>>, to: Ptr<'s, List>, node: Ptr<'s, Node>) -> Result<(), Error> {
    tx.lock(to.object())?;
    let first = tx.follow(to.at(List::first))?;
    tx.link(node.at(Node::next), first)?;
    tx.link(to.at(List::first), Some(node))?;
    tx.set(to.at(List::len), tx.get(to.at(List::len)) + 1)
}

fn take<'s>(tx: &mut Tx<'s, SimObjects<'_>>, from: Ptr<'s, List>) -> Result<Option<Ptr<'s, Node>>, Error> {
    tx.lock(from.object())?;
    let Some(node) = tx.follow(from.at(List::first))? else { return Ok(None) };
    let next = tx.follow(node.at(Node::next))?;
    tx.link(from.at(List::first), next)?;
    tx.set(from.at(List::len), tx.get(from.at(List::len)) - 1)?;
    Ok(Some(node))
}

/// All lists as text.
pub(crate) fn show(space: &Space<SimObjects<'_>>) -> Result<String, String> {
    let mut text = String::new();
    for number in 0..2 {
        let list = show_one(space, number).map_err(|error| format!("list {number}: {error}"))?;
        writeln!(text, "{list}").expect("a string takes all");
    }
    Ok(text)
}

fn show_one(space: &Space<SimObjects<'_>>, number: u8) -> Result<String, Error> {
    let guard = &space.enter();
    let list = open(guard, number)?.base();
    let mut values = Vec::new();
    let mut next = guard.follow(list.at(List::first))?;
    while let Some(node) = next {
        values.push(guard.get(node.at(Node::value)));
        next = guard.follow(node.at(Node::next))?;
        // Sizes are small here: a cycle shows.
        if values.len() > 10_000 {
            return Err(Error::Damaged);
        }
    }
    let len = guard.get(list.at(List::len));
    if len != values.len() as u64 {
        return Err(Error::Damaged);
    }
    let other = guard.follow(list.at(List::other))?;
    let other = other.map(|other| guard.get(other.at(List::len)));
    let usage = space.heap_usage(list.object())?;
    let kind = space.type_name(list.object());
    Ok(format!("list {number} {kind:?}: {values:?} to {other:?}, {usage:?}"))
}
