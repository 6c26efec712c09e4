//! Where an object's pages are: its page tree, in DRAM or in the store.

use core::ops::Range;

use twizzler_abi::object::Metadata;
use twizzler_abi::{Error, ObjId};
use twizzler_store::tree::{Batch, Bound, Filled, Found, Invalidate, Root, Tree, Usage};
use twizzler_store::{self as store};

use super::frames::{DRAM, DramFrames};
use super::nvm::{self, NvmFrames};
use crate::machine::entry::Access;

/// The tree of an object.
#[derive(Clone, Copy)]
pub(crate) enum Space {
    /// In DRAM.
    Volatile(Root),
    /// In NVM. The store's object table names the same root.
    Persistent(Root),
    /// The object has been deleted.
    Gone,
}

/// First page whose neighbours are filled along with it, in NVM: for one flush and fence in all. Before
/// it, a one-page object would pay for pages that it doesn't need.
const LINES_FROM_PAGE: u64 = 8;

/// A tree over either memory.
enum Either {
    Dram(Tree<'static, DramFrames>),
    Nvm(Tree<'static, NvmFrames>),
}

macro_rules! on_tree {
    ($space:expr, $tree:ident => $do:expr) => {
        match $space.tree()? {
            Either::Dram($tree) => $do.map_err(in_dram),
            Either::Nvm($tree) => $do,
        }
    };
}

/// In DRAM, no frame means no memory.
fn in_dram(error: store::Error) -> store::Error {
    if error == store::Error::OutOfFrames { store::Error::OutOfMemory } else { error }
}

impl Space {
    /// # Errors
    /// [`Error::NoSuchObject`] if the object has been deleted.
    pub(super) fn check_alive(&self) -> Result<(), Error> {
        if matches!(self, Self::Gone) { Err(Error::NoSuchObject) } else { Ok(()) }
    }

    /// Where the tree starts.
    pub(super) fn root(&self) -> Result<Root, store::Error> {
        match *self {
            Self::Volatile(root) | Self::Persistent(root) => Ok(root),
            Self::Gone => Err(store::Error::NoSuchObject),
        }
    }

    fn tree(&self) -> Result<Either, store::Error> {
        Ok(match *self {
            Self::Volatile(root) => Either::Dram(Tree::new(&DRAM, root)),
            Self::Persistent(root) => Either::Nvm(Tree::new(nvm::frames()?, root)),
            Self::Gone => return Err(store::Error::NoSuchObject),
        })
    }

    pub(super) fn lookup(&self, page: u64) -> Result<Found, store::Error> {
        on_tree!(self, tree => tree.lookup(page))
    }

    /// `access`: what the page is filled for. Only who writes will soon write to its neighbours; who reads through a
    /// sparse object is not to fill the store.
    pub(super) fn fill(&self, page: u64, access: Access) -> Result<Filled, store::Error> {
        match self.tree()? {
            Either::Dram(tree) => tree.fill(page, Batch::Page).map_err(in_dram),
            Either::Nvm(tree) if page >= LINES_FROM_PAGE && access == Access::Write => {
                tree.fill(page, Batch::Line)
            }
            Either::Nvm(tree) => tree.fill(page, Batch::Page),
        }
    }

    pub(super) fn populate(&self, pages: Range<u64>) -> Result<u64, store::Error> {
        on_tree!(self, tree => tree.populate(pages))
    }

    pub(super) fn discard(&self, pages: Range<u64>, inv: &mut impl Invalidate) -> Result<u64, store::Error> {
        on_tree!(self, tree => tree.discard(pages, inv))
    }

    pub(super) fn forbid(&self, pages: Range<u64>, inv: &mut impl Invalidate) -> Result<u64, store::Error> {
        on_tree!(self, tree => tree.forbid(pages, inv))
    }

    pub(super) fn set_metadata(
        &self,
        metadata: &Metadata,
        inv: &mut impl Invalidate,
    ) -> Result<(), store::Error> {
        on_tree!(self, tree => tree.set_metadata(metadata, inv))
    }

    pub(super) fn usage(&self) -> Result<Usage, store::Error> {
        on_tree!(self, tree => tree.usage())
    }

    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), store::Error> {
        on_tree!(self, tree => tree.read(offset, into))
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), store::Error> {
        on_tree!(self, tree => tree.write(offset, bytes))
    }

    /// Frees so many tables of a deleted object's tree, which no CPU knows. True when all of it is free.
    pub(super) fn destroy_some(&self, tables: u64) -> bool {
        match self.tree() {
            Ok(Either::Dram(tree)) => tree.destroy_some(tables),
            Ok(Either::Nvm(tree)) => tree.destroy_some(tables),
            Err(_) => true,
        }
    }

    /// The space of the same object that reaches `page`.
    pub(super) fn reaching(&self, id: ObjId, page: u64) -> Result<Self, store::Error> {
        match *self {
            Self::Volatile(root) => Ok(Self::Volatile(Tree::new(&DRAM, root).raise(page).map_err(in_dram)?)),
            Self::Persistent(_) => Ok(Self::Persistent(nvm::extend(id, page)?)),
            Self::Gone => Err(store::Error::NoSuchObject),
        }
    }

    /// Pages from 0 on that need no [`Space::reaching`].
    pub(super) fn reach_pages(&self) -> u64 {
        self.root().map_or(0, Root::reach_pages)
    }
}

/// A new tree in DRAM.
pub(super) fn volatile(metadata: &Metadata) -> Result<Space, Error> {
    let tree = Tree::create(&DRAM, metadata).map_err(in_dram)?;
    // Nothing but the metadata is stored: what is never stored need not be looked at.
    Ok(Space::Volatile(tree.root().bounded(Bound::LINE)))
}
