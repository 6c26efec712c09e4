//! The ring in objects, linked by invariant pointers.

use std::time::Duration;

use twizzler_abi::{Error, ObjId};
use twizzler_object::{Access, Backend, Guard, InvPtr, InvSpan, Ptr, Space, Stored, Tx};

use super::raw;
use super::ring::{Place, Ring};
use crate::clock::Stopwatch;

/// The root of an object: its nodes.
#[derive(Stored)]
#[stored(name = "bench.hop-root", version = 1)]
#[repr(C)]
pub(super) struct Root {
    nodes: InvSpan<Node>,
}

/// A node: one cache line.
#[derive(Stored)]
#[stored(name = "bench.hop-node", version = 1)]
#[repr(C)]
pub(super) struct Node {
    /// The next node, as programs would have it.
    next: InvPtr<Node>,
    /// Its address while the ring is measured, for plain pointers in the very same layout.
    raw: u64,
    payload: [u64; 6],
}

/// Links that are made in one transaction.
const BATCH: usize = 4096;

/// Makes the ring. The first object is where it starts.
pub(super) fn build<B: Backend>(space: &Space<B>, ring: &Ring) -> Result<Vec<ObjId>, Error> {
    let guard = space.enter();
    let mut ids = Vec::new();
    for _ in 0..ring.objects {
        ids.push(guard.transact(|tx| {
            let object = tx.create::<Root>()?;
            let nodes = tx.alloc_span::<Node>(object.area(), ring.nodes.into())?;
            tx.link_span(object.base().at(Root::nodes), nodes)?;
            Ok::<_, Error>(guard.id_of(object.area()))
        })?);
    }
    let links: Vec<(Place, Place)> = ring.links().collect();
    let nodes = nodes(&guard, &ids)?;
    for batch in links.chunks(BATCH) {
        guard.transact(|tx| batch.iter().try_for_each(|&(from, to)| link(tx, nodes(from)?, nodes(to)?)))?;
    }
    Ok(ids)
}

fn link<'s, B: Backend>(tx: &mut Tx<'s, B>, from: Ptr<'s, Node>, to: Ptr<'s, Node>) -> Result<(), Error> {
    tx.link(from.at(Node::next), Some(to))?;
    tx.set(from.at(Node::raw), to.address())
}

/// Where the nodes lie.
fn nodes<'g, B: Backend>(
    guard: &'g Guard<'g, B>,
    ids: &[ObjId],
) -> Result<impl Fn(Place) -> Result<Ptr<'g, Node>, Error> + use<'g, B>, Error> {
    let mut spans = Vec::new();
    for &id in ids {
        let root = guard.open::<Root>(id, Access::Write)?.base();
        spans.push(guard.follow_span(root.at(Root::nodes))?);
    }
    Ok(move |place: Place| spans[place.object as usize].index(place.index.into()).ok_or(Error::OutOfRange))
}

/// The ring as one program sees it.
pub(super) struct Chaser<'s, B: Backend> {
    guard: &'s Guard<'s, B>,
    at: Ptr<'s, Node>,
    /// Where the plain pointers are.
    raw: u64,
}

impl<'s, B: Backend> Chaser<'s, B> {
    /// One that begins at this of the ring's visits.
    pub(super) fn new(
        guard: &'s Guard<'s, B>,
        ids: &[ObjId],
        ring: &Ring,
        first: usize,
    ) -> Result<Self, Error> {
        let start = nodes(guard, ids)?(ring.visits[first])?;
        Ok(Self { guard, at: start, raw: start.address() })
    }

    /// Follows so many invariant pointers.
    pub(super) fn chase(&mut self, number: u64) -> Duration {
        let (took, end) = chase(self.guard, self.at, number).expect("the ring is whole");
        self.at = end;
        took
    }

    /// Follows so many invariant pointers, by a cursor.
    pub(super) fn chase_by_cursor(&mut self, number: u64) -> Duration {
        let (took, end) = chase_by_cursor(self.guard, self.at, number).expect("the ring is whole");
        self.at = end;
        took
    }

    /// Follows so many plain pointers in the same nodes.
    pub(super) fn chase_raw(&mut self, number: u64) -> Duration {
        // SAFETY: `build` stored the address of the next node in each, and the objects have stayed where they were mapped.
        let (took, end) = unsafe { raw::chase(self.raw, Node::raw.offset(), number) };
        self.raw = end;
        took
    }
}

#[inline(never)]
fn chase<'s, B: Backend>(
    guard: &'s Guard<'s, B>,
    start: Ptr<'s, Node>,
    number: u64,
) -> Result<(Duration, Ptr<'s, Node>), Error> {
    let clock = Stopwatch::start();
    let mut at = start;
    for _ in 0..number {
        at = guard.follow(at.at(Node::next))?.ok_or(Error::Damaged)?;
    }
    Ok((clock.elapsed(), at))
}

#[inline(never)]
fn chase_by_cursor<'s, B: Backend>(
    guard: &'s Guard<'s, B>,
    start: Ptr<'s, Node>,
    number: u64,
) -> Result<(Duration, Ptr<'s, Node>), Error> {
    let clock = Stopwatch::start();
    let mut at = guard.cursor(start);
    for _ in 0..number {
        at = at.follow(Node::next)?.ok_or(Error::Damaged)?;
    }
    Ok((clock.elapsed(), at.place()))
}
