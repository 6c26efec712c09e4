//! Versions of a map, as readers find them.

use core::sync::atomic::{Ordering, fence};

use twizzler_abi::Error;

use super::super::raw::local;
use super::page::{At, Node, Page};
use super::retired::Retired;
use super::tree::Tree;
use crate::backend::Backend;
use crate::keeps::Keep;
use crate::pointer::{InvPtr, Ptr};
use crate::reader::Reader;
use crate::stored::Stored;
use crate::tx::Tx;

/// Levels that a map has at most: far more than fit an object.
const LEVELS_MAX: u16 = 24;
/// How often a read begins again that was overtaken.
pub(super) const ATTEMPTS: usize = 1000;

/// The root of a map, whatever the types. All zero is an empty map.
///
/// Version `n` is described by `states[n % 2]`, which the version before it does not touch: so there is one store that makes a new version visible,
/// that of its number, whoever is cut off before or after it.
#[derive(Stored)]
#[stored(name = "twizzler.map-root", version = 4)]
#[repr(C)]
pub(super) struct TreeRoot {
    pub(super) states: [State; 2],
    /// Never written, so that states and number are never stored as one.
    gap: u64,
    /// How many transactions have changed the map. Behind the states ([`crate::tx::Rank::Version`]).
    pub(super) version: u64,
    /// The oldest version of which all nodes are still there.
    pub(super) oldest: u64,
    /// What is to be freed: the oldest part of the list, and the newest.
    pub(super) retired: InvPtr<Retired>,
    pub(super) newest: InvPtr<Retired>,
    /// Bytes of all that is to be freed.
    pub(super) retired_bytes: u64,
}

/// One version.
#[derive(Stored)]
#[stored(name = "twizzler.map-state", version = 1)]
#[repr(C)]
pub(super) struct State {
    /// The root node.
    pub(super) node: InvPtr<Node>,
    pub(super) totals: Totals,
}

/// Entries of a whole map, and bytes of all keys and values.
#[derive(Stored, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[stored(name = "twizzler.map-totals", version = 1)]
#[repr(C)]
pub(super) struct Totals {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// A version of a map, as a reader has found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version<'s> {
    /// The root node; None: the map is empty.
    pub(super) top: Option<At<'s>>,
    pub(super) totals: Totals,
    number: u64,
    root: Ptr<'s, TreeRoot>,
}

impl<'s> Version<'s> {
    /// Gives what was read of this version, if the version was whole meanwhile.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if not: the result means nothing.
    #[inline]
    pub(super) fn whole<T>(&self, reader: &impl Reader<'s>, result: Result<T, Error>) -> Result<T, Error> {
        // What was read comes before the look at the oldest version; pairs with the release that comes before it was stored.
        fence(Ordering::Acquire);
        if reader.get(self.root.at(TreeRoot::oldest)) > self.number {
            Err(Error::Interrupted)
        } else {
            result
        }
    }

    /// A child of a node, one level below.
    #[inline]
    pub(super) fn child<P: Page>(
        &self,
        reader: &impl Reader<'s>,
        at: &At<'s>,
        i: usize,
    ) -> Result<At<'s>, Error> {
        let offset = P::read_child(reader, at, i)?;
        let level = at.level.checked_sub(1).ok_or(Error::Damaged)?;
        At::open::<P>(reader, at.area, offset, Some(level), self.number)
    }
}

impl<'s, P: Page> Tree<'s, P> {
    /// Where a version is described.
    #[inline]
    pub(super) fn state(&self, number: u64) -> Result<Ptr<'s, State>, Error> {
        self.root.at(TreeRoot::states).index((number & 1) as usize).ok_or(Error::Damaged)
    }

    /// The version that is there now.
    ///
    /// # Errors
    /// [`Error::Interrupted`]: it has gone meanwhile. [`Error::Damaged`].
    #[inline]
    pub(super) fn version(&self, reader: &impl Reader<'s>) -> Result<Version<'s>, Error> {
        let place = self.root.at(TreeRoot::version);
        for _ in 0..ATTEMPTS {
            let number = reader.get(place);
            // Pairs with the release that comes before the number was stored: its state is seen.
            fence(Ordering::Acquire);
            let state = self.state(number)?;
            let node = local(reader, state.at(State::node));
            let totals = reader.get(state.at(State::totals));
            // Pairs with the release between the states of two versions: if that of a later one was seen, so is its number, or the one before.
            fence(Ordering::Acquire);
            if reader.get(place) != number {
                continue;
            }
            let version = Version { top: None, totals, number, root: self.root };
            if node == 0 {
                return Ok(version);
            }
            let top = At::open::<P>(reader, self.area(), node, None, number);
            let top = version.whole(reader, top)?;
            return if top.level < LEVELS_MAX {
                Ok(Version { top: Some(top), ..version })
            } else {
                Err(Error::Damaged)
            };
        }
        Err(Error::Interrupted)
    }

    /// The root node of the newest version, as a transaction sees it that has locked the map, and the map's totals.
    pub(super) fn newest<B: Backend>(&self, tx: &Tx<'s, B>) -> Result<(Option<At<'s>>, Totals), Error> {
        let state = self.state(tx.get(self.root.at(TreeRoot::version)))?;
        let totals = tx.get(state.at(State::totals));
        let node = local(tx, state.at(State::node));
        if node == 0 {
            return Ok((None, totals));
        }
        let top = At::newest::<P>(tx, self.area(), node, None)?;
        if top.level < LEVELS_MAX { Ok((Some(top), totals)) } else { Err(Error::Damaged) }
    }

    /// The version that is there now, kept for as long as the keep lives.
    pub(super) fn kept_version(
        &self,
        reader: &impl Reader<'s>,
    ) -> Result<(Version<'s>, Option<Keep<'s>>), Error> {
        let keep = reader.keep(self.root.at(TreeRoot::version))?;
        Ok((self.version(reader)?, keep))
    }
}
