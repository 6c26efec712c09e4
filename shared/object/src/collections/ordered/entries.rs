//! Entries of a map as they lie in an object's bytes, in the order of their keys: see [`super::super::entries`].

use alloc::vec::Vec;
use core::mem::offset_of;

use twizzler_abi::Error;

use super::super::entries::{Entries, Part, value};
use super::page::{BIRTH, Content, Page};
use super::slots::Slots;
use super::tail::{LEAF_HEAD_BYTES, Order, STEPS, TAIL_MAX, VERSIONS};
use super::version::{State, Totals, TreeRoot};
use crate::types::Source;

/// Levels of a tree at most: see [`super::version`].
const LEVELS_MAX: u16 = 24;

/// Where things are in nodes for keys and values of fixed sizes.
pub(in super::super) struct Sizes {
    /// Bytes of a key.
    pub(in super::super) key: u64,
    /// Bytes of a value.
    pub(in super::super) value: u64,
    /// Where in a leaf the values begin.
    pub(in super::super) values: u64,
    /// Where above the leaves the children begin.
    pub(in super::super) children: u64,
}

/// Of a map of fixed sizes.
pub(in super::super) fn of_arrays(
    source: &impl Source,
    at: u64,
    sizes: &Sizes,
    max: usize,
) -> Result<Entries, Error> {
    read(source, at, max, &|node, (level, version), len, found: &mut Found| {
        let place = |from: u64, i: u64, size: u64| {
            i.checked_mul(size).and_then(|i| node.checked_add(from)?.checked_add(i))
        };
        if level > 0 {
            for i in 0..len {
                let child = place(sizes.children, i, 8).ok_or(Error::Damaged)?;
                found.children.push(value(source, child)?);
            }
            return Ok(());
        }
        let order = order(source, node, version, len)?;
        for i in 0..order.len() {
            let number = order.number(i) as u64;
            let key = place(LEAF_HEAD_BYTES as u64, number, sizes.key).ok_or(Error::Damaged)?;
            let value = place(sizes.values, number, sizes.value).ok_or(Error::Damaged)?;
            found.entries.push((Some(Part::At(key)), Part::At(value)));
        }
        Ok(())
    })
}

/// The order of a leaf's entries in a version.
fn order(source: &impl Source, node: u64, version: u64, len: u64) -> Result<Order, Error> {
    let at = |offset: usize| node.checked_add(offset as u64).ok_or(Error::Damaged);
    let birth: u64 = value(source, at(BIRTH)?)?;
    let versions: [u32; TAIL_MAX] = value(source, at(VERSIONS)?)?;
    let steps: [u8; TAIL_MAX] = value(source, at(STEPS)?)?;
    let seen = 1..=version.saturating_sub(birth);
    let tail = versions.iter().take_while(|&&after| seen.contains(&u64::from(after))).count();
    Order::after(len as usize, steps[..tail].iter().map(|&step| Ok(step)))
}

/// Of a map of bytes.
pub(in super::super) fn of_bytes(source: &impl Source, at: u64, max: usize) -> Result<Entries, Error> {
    read(source, at, max, &|node, (level, _), _, found: &mut Found| {
        let mut bytes = alloc::vec![0; Slots::node_bytes(level)];
        source.read(node, &mut bytes)?;
        let slots = Slots::of(bytes);
        slots.check(level)?;
        for i in 0..slots.len() {
            match slots.content(i) {
                Content::Child(child) => found.children.push(child),
                Content::Here(value) => {
                    found.entries.push((Some(Part::Bytes(slots.key(i))), Part::Bytes(value.to_vec())));
                }
                Content::Elsewhere(offset, len) => {
                    found.entries.push((Some(Part::Bytes(slots.key(i))), Part::BytesAt(offset, len)));
                }
            }
        }
        Ok(())
    })
}

/// What a node holds: the one or the other.
#[derive(Default)]
struct Found {
    children: Vec<u64>,
    entries: Vec<(Option<Part>, Part)>,
}

/// Reads a node of a level, in a version of the map, with so many entries.
type ReadNode<'a> = dyn Fn(u64, (u16, u64), u64, &mut Found) -> Result<(), Error> + 'a;

fn read(source: &impl Source, at: u64, max: usize, node: &ReadNode<'_>) -> Result<Entries, Error> {
    let version: u64 = value(source, at + offset_of!(TreeRoot, version) as u64)?;
    let states = at + offset_of!(TreeRoot, states) as u64;
    let state = states + version % 2 * size_of::<State>() as u64;
    let top: u64 = value(source, state + offset_of!(State, node) as u64)?;
    let totals: Totals = value(source, state + offset_of!(State, totals) as u64)?;
    let mut entries = Entries { some: Vec::new(), len: totals.entries };
    // Nodes that are still to be read, the next one last, and the level that each must have.
    let mut waiting: Vec<(u64, Option<u16>)> = if top == 0 { Vec::new() } else { alloc::vec![(top, None)] };
    while let Some((at, wanted)) = waiting.pop()
        && entries.some.len() < max
    {
        let [level, len]: [u16; 2] = value(source, at)?;
        if wanted.is_some_and(|wanted| wanted != level) || level >= LEVELS_MAX {
            return Err(Error::Damaged);
        }
        let mut found = Found::default();
        node(at, (level, version), len.into(), &mut found)?;
        if found.children.is_empty() && found.entries.is_empty() {
            // There are none; and with such, few nodes that lead to each other could be a tree of any size.
            return Err(Error::Damaged);
        }
        waiting.extend(found.children.into_iter().rev().map(|child| (child, level.checked_sub(1))));
        entries.some.extend(found.entries);
    }
    entries.some.truncate(max);
    Ok(entries)
}
