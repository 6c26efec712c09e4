//! What committed versions of a map no longer reach, but readers may still read.
//!
//! Nobody waits for readers, and no reader is registered. What a change replaces goes on a list, and is freed, oldest first, when the list
//! holds more than a certain share of the map. The root says which is the oldest version that is still whole: a reader looks there *after* it
//! has read, and so notices that it was overtaken.

use twizzler_abi::Error;

use super::page::Page;
use super::tree::{Tree, TreeRoot};
use crate::Stored;
use crate::backend::Backend;
use crate::pointer::{Bytes, InvPtr, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// Entries of a part of the list.
const LEN: usize = 30;
/// Bytes that are kept for readers in any case; the half of the map's own bytes comes to that.
const KEPT_BYTES: u64 = 128 * 1024;

/// A part of the list.
#[derive(Stored)]
#[stored(name = "twizzler.map-retired", version = 1)]
#[repr(C)]
pub(super) struct Retired {
    next: InvPtr<Retired>,
    /// The version that no longer reaches the last of the entries.
    stamp: u64,
    len: u64,
    /// Bytes of all entries.
    bytes: u64,
    entries: [Entry; LEN],
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
        let part = match tx.follow(self.root.at(TreeRoot::newest))? {
            Some(part) if tx.get(part.at(Retired::len)) < LEN as u64 => part,
            newest => self.add_part(tx, newest, stamp)?,
        };
        let len = tx.get(part.at(Retired::len));
        let place = part.at(Retired::entries).index(len as usize).ok_or(Error::Damaged)?;
        tx.set(place, Entry { offset: first.offset(), len: bytes.len() })?;
        let all = tx.get(part.at(Retired::bytes)).saturating_add(bytes.len());
        tx.set(part.at(Retired::bytes), all)?;
        tx.set(part.at(Retired::len), len + 1)?;
        tx.set(part.at(Retired::stamp), stamp)?;
        let all = tx.get(self.root.at(TreeRoot::retired_bytes)).saturating_add(bytes.len());
        tx.set(self.root.at(TreeRoot::retired_bytes), all)
    }

    /// Adds a part to the list, and frees parts that are too much.
    fn add_part<B: Backend>(
        &self,
        tx: &mut Tx<'s, B>,
        newest: Option<Ptr<'s, Retired>>,
        stamp: u64,
    ) -> Result<Ptr<'s, Retired>, Error> {
        let part = tx.alloc::<Retired>(self.area())?;
        let place = newest.map_or(self.root.at(TreeRoot::retired), |newest| newest.at(Retired::next));
        tx.link(place, Some(part))?;
        tx.link(self.root.at(TreeRoot::newest), Some(part))?;
        let top = self.top(tx)?;
        let kept = KEPT_BYTES.saturating_add(Self::totals(tx, top)?.bytes / 2);
        while tx.get(self.root.at(TreeRoot::retired_bytes)) > kept {
            let oldest = tx.follow(self.root.at(TreeRoot::retired))?.ok_or(Error::Damaged)?;
            // The version that readers see now stays whole, however much this transaction replaces.
            if oldest == part || tx.get(oldest.at(Retired::stamp)) == stamp {
                break;
            }
            self.free_part(tx, oldest)?;
        }
        Ok(part)
    }

    /// Frees the oldest part of the list, and what it lists.
    fn free_part<B: Backend>(&self, tx: &mut Tx<'s, B>, part: Ptr<'s, Retired>) -> Result<(), Error> {
        let len = tx.get(part.at(Retired::len)).min(LEN as u64);
        for i in 0..len as usize {
            let entry = tx.get(part.at(Retired::entries).index(i).ok_or(Error::Damaged)?);
            tx.free_span(self.area().span::<u8>(entry.offset, entry.len).ok_or(Error::Damaged)?)?;
        }
        let stamp = tx.get(part.at(Retired::stamp));
        if tx.get(self.root.at(TreeRoot::oldest)) < stamp {
            tx.set(self.root.at(TreeRoot::oldest), stamp)?;
        }
        let bytes = tx.get(part.at(Retired::bytes));
        let left = tx.get(self.root.at(TreeRoot::retired_bytes)).saturating_sub(bytes);
        tx.set(self.root.at(TreeRoot::retired_bytes), left)?;
        let next = tx.follow(part.at(Retired::next))?;
        tx.link(self.root.at(TreeRoot::retired), next)?;
        if next.is_none() {
            tx.link(self.root.at(TreeRoot::newest), None)?;
        }
        tx.free(part)
    }

    /// Gives up all older versions: readers of them notice.
    pub(super) fn forget_versions<B: Backend>(&self, tx: &mut Tx<'s, B>, stamp: u64) -> Result<(), Error> {
        while let Some(part) = tx.follow(self.root.at(TreeRoot::retired))? {
            self.free_part(tx, part)?;
        }
        tx.set(self.root.at(TreeRoot::oldest), stamp)
    }
}
