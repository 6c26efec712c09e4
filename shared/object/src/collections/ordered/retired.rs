//! What committed versions of a map no longer reach, but readers may still read.
//!
//! Nobody waits for readers. What a change replaces goes on a list, and is freed, oldest first, when the list holds more than [`KEPT_BYTES`]; but
//! not what a version consists of that a reader keeps ([`crate::keeps`]), nor the version before the change. The root says which is the oldest version
//! that is still whole: who reads without a keep looks there *after* it has read, and so notices that it was overtaken.

use twizzler_abi::Error;

use super::page::Page;
use super::tree::Tree;
use super::version::TreeRoot;
use crate::Stored;
use crate::backend::Backend;
use crate::memory;
use crate::pointer::{Bytes, InvPtr, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// Entries of a part of the list.
const LEN: usize = 30;
/// Bytes that are kept for readers without keeps: so that a get rarely has to begin again.
const KEPT_BYTES: u64 = 64 * 1024;
/// Entries that are freed for one that is added: a few, so that no change pays for many others, nor for a snapshot that was kept for long; more where
/// more bytes wait.
const FREED: core::ops::RangeInclusive<u64> = 2..=128;
const BYTES_FOR_ONE: u64 = KEPT_BYTES / 4;

/// A part of the list.
#[derive(Stored)]
#[stored(name = "twizzler.map-retired", version = 3)]
#[repr(C)]
pub(super) struct Retired {
    next: InvPtr<Retired>,
    tally: Tally,
    entries: [Entry; LEN],
}

/// What a part amounts to.
#[derive(Stored, Clone, Copy)]
#[stored(name = "twizzler.map-retired-tally", version = 2)]
#[repr(C)]
struct Tally {
    /// The version that no longer reaches the last of the entries.
    stamp: u64,
    /// Entries; those behind them have been freed.
    len: u64,
}

/// Memory to be freed.
#[derive(Stored, Clone, Copy)]
#[stored(name = "twizzler.map-retired-entry", version = 1)]
#[repr(C)]
struct Entry {
    offset: u64,
    len: u64,
}

impl<'s, P: Page> Tree<'s, P> {
    /// Frees memory that committed versions reach, as soon as no reader should need it.
    pub(super) fn retire<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        bytes: Bytes<'s>,
        stamp: u64,
    ) -> Result<(), Error> {
        let Some(first) = bytes.index(0) else { return Ok(()) };
        let waiting = tx.get(self.root.at(TreeRoot::retired_bytes));
        if waiting > KEPT_BYTES {
            let most = (waiting / BYTES_FOR_ONE).clamp(*FREED.start(), *FREED.end());
            self.free_retired(tx, stamp, KEPT_BYTES, most)?;
        }
        let newest = tx.follow(self.root.at(TreeRoot::newest))?;
        let (part, tally) = match newest.map(|part| (part, tx.get(part.at(Retired::tally)))) {
            Some((part, tally)) if tally.len < LEN as u64 => (part, tally),
            _ => (self.add_part(tx, newest)?, Tally { stamp, len: 0 }),
        };
        let place = part.at(Retired::entries).index(tally.len as usize).ok_or(Error::Damaged)?;
        tx.set(place, Entry { offset: first.offset(), len: bytes.len() })?;
        tx.set(part.at(Retired::tally), Tally { stamp, len: tally.len + 1 })?;
        let all = tx.get(self.root.at(TreeRoot::retired_bytes)).saturating_add(bytes.len());
        tx.set(self.root.at(TreeRoot::retired_bytes), all)
    }

    /// Adds a part to the list.
    fn add_part<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        newest: Option<Ptr<'s, Retired>>,
    ) -> Result<Ptr<'s, Retired>, Error> {
        let part = tx.alloc::<Retired>(self.area())?;
        let place = newest.map_or(self.root.at(TreeRoot::retired), |newest| newest.at(Retired::next));
        tx.link(place, Some(part))?;
        tx.link(self.root.at(TreeRoot::newest), Some(part))?;
        Ok(part)
    }

    /// Frees what no reader needs, but for the last so many bytes, and no more than so many entries.
    pub(super) fn free_retired<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        stamp: u64,
        but_bytes: u64,
        most: u64,
    ) -> Result<(), Error> {
        // The version that readers see now stays whole, however much this transaction replaces: the one in place, since later ones may wait for
        // the disk.
        let number = self.root.at(TreeRoot::version);
        let now = memory::load(number).min(stamp.saturating_sub(1));
        let kept = tx.space().oldest_kept(number).min(now);
        let mut left = most;
        while left > 0 {
            let Some(oldest) = tx.follow(self.root.at(TreeRoot::retired))? else { break };
            let waiting = tx.get(self.root.at(TreeRoot::retired_bytes));
            // One that was just added is empty, and of no version yet.
            let tally = tx.get(oldest.at(Retired::tally));
            if waiting <= but_bytes || tally.len == 0 || tally.stamp > kept {
                break;
            }
            let freed = self.free_some(tx, oldest, tally, (waiting - but_bytes, left));
            left -= freed.map_err(|error| tx.tear(error))?;
        }
        Ok(())
    }

    /// Frees some of what the oldest part of the list lists, the last of it first: so many bytes, or entries; at the end also the part. Tells how many entries.
    fn free_some<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        part: Ptr<'s, Retired>,
        mut tally: Tally,
        (bytes, most): (u64, u64),
    ) -> Result<u64, Error> {
        let len = tally.len.min(LEN as u64);
        let (mut rest, mut freed_bytes) = (len, 0u64);
        while rest > 0 && len - rest < most && freed_bytes < bytes {
            rest -= 1;
            let entry = tx.get(part.at(Retired::entries).index(rest as usize).ok_or(Error::Damaged)?);
            tx.free_span(self.area().span::<u8>(entry.offset, entry.len).ok_or(Error::Damaged)?)?;
            freed_bytes = freed_bytes.saturating_add(entry.len);
        }
        if tx.get(self.root.at(TreeRoot::oldest)) < tally.stamp {
            tx.set(self.root.at(TreeRoot::oldest), tally.stamp)?;
        }
        let all = tx.get(self.root.at(TreeRoot::retired_bytes)).saturating_sub(freed_bytes);
        tx.set(self.root.at(TreeRoot::retired_bytes), all)?;
        if rest > 0 {
            tally.len = rest;
            tx.set(part.at(Retired::tally), tally)?;
            return Ok(len - rest);
        }
        let next = tx.follow(part.at(Retired::next))?;
        tx.link(self.root.at(TreeRoot::retired), next)?;
        if next.is_none() {
            tx.link(self.root.at(TreeRoot::newest), None)?;
        }
        tx.free(part)?;
        Ok(len)
    }
}
