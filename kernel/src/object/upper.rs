//! Tables over a short tree.
//!
//! A small object hangs off a PDPT entry, which wants a page directory; a large one off a PML4 entry,
//! which wants a PDPT. A tree that is shorter gets volatile tables over it, made once for the object and
//! used by all its mappings. They hold one entry each, the first, which is as permissive as a tree's:
//! rights are in the mapping's own entry.

use twizzler_abi::Error;
use twizzler_store::FrameNo;
use twizzler_store::entry::Level;
use twizzler_store::tree::Root;

use super::frames;
use crate::view::table;

/// Tables over a tree: of level two and three, where they are needed.
#[derive(Default)]
pub(super) struct Upper {
    tables: [Option<FrameNo>; 2],
}

/// The level of `Upper::tables[0]`.
const FIRST_LEVEL: u8 = 2;

impl Upper {
    /// The table of level `top` that mappings point to: that of the first GiB, where the tree is higher.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Damaged`] for a tree without its metadata.
    pub(super) fn top(&mut self, root: Root, top: Level) -> Result<FrameNo, Error> {
        let (below, top) = (root.level() as u8, top as u8);
        let mut frame = root.frame();
        for _ in top..below {
            frame = table::target(table::get(frame, 0)).ok_or(Error::Damaged)?;
        }
        for level in below + 1..=top {
            let place = &mut self.tables[usize::from(level - FIRST_LEVEL)];
            let table = match *place {
                Some(table) => table,
                None => *place.insert(frames::allocate()?),
            };
            table::set(table, 0, table::link(frame));
            frame = table;
        }
        Ok(frame)
    }

    /// Takes out the tables that a tree of this level does not need, to be freed once no CPU knows them.
    pub(super) fn take_unneeded(&mut self, level: Level) -> [Option<FrameNo>; 2] {
        let unneeded = |index: usize| index as u8 + FIRST_LEVEL <= level as u8;
        core::array::from_fn(|index| if unneeded(index) { self.tables[index].take() } else { None })
    }
}

impl Drop for Upper {
    fn drop(&mut self) {
        self.tables.iter_mut().filter_map(Option::take).for_each(frames::free);
    }
}
