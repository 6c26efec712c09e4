//! Views: which object is in which slot, and the root page table that makes it so.
//!
//! A [`View`] exists while threads run in a view object. Its root's lower half starts empty. The first
//! fault in a slot copies the slot's entry from the object ([`entry`]), checks the copy, and *records*
//! what it mapped ([`record`]): the record is in force until it is invalidated or the object deleted,
//! whatever the entry says later. Rights are in the upper entry that the record stands for, which belongs
//! to this view alone; the tree below is the object's own.

pub(crate) mod entry;
pub(crate) mod fault;
pub(crate) mod invalidate;
pub(crate) mod record;
pub(crate) mod table;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use twizzler_abi::Error;
use twizzler_abi::rights::ObjectFlags;

use crate::level;
use crate::machine::lock::Lock;
use crate::machine::tlb::Root;
use crate::object::Object;
use crate::object::budget::{Charge, USERS, VIEW_BYTES};
use record::Records;

/// A view that threads run in.
pub(crate) struct View {
    /// The object that describes it: pinned.
    pub(crate) object: Arc<Object>,
    root: Arc<Root>,
    records: Lock<Records, { level::VIEW }>,
    /// All its threads are being ended: none may be started.
    refuses_threads: AtomicBool,
    _charge: Charge,
}

impl View {
    /// One more thread is going to run in the view that `object` describes.
    ///
    /// # Errors
    /// [`Error::WrongType`] if it describes none, [`Error::NoSuchObject`] if it has been deleted, no memory.
    pub(crate) fn enter(object: &Arc<Object>) -> Result<Arc<Self>, Error> {
        if !object.flags().contains(ObjectFlags::VIEW) {
            return Err(Error::WrongType);
        }
        if let Some(view) =
            object.with_view(|place| place.as_ref().filter(|view| view.thread_came()).cloned())?
        {
            return Ok(view);
        }
        let charge = USERS.hold(VIEW_BYTES)?;
        let root = Arc::new(Root::new()?);
        let records = Lock::new(Records::new());
        let fresh = Arc::new(Self {
            object: object.clone(),
            root,
            records,
            refuses_threads: AtomicBool::new(false),
            _charge: charge,
        });
        object.pin()?;
        let view = object.with_view(|place| match place {
            // Another CPU was faster.
            Some(view) if view.thread_came() => view.clone(),
            _ => place.insert(fresh.clone()).clone(),
        });
        if !view.as_ref().is_ok_and(|view| Arc::ptr_eq(view, &fresh)) {
            object.unpin();
        }
        view
    }

    /// Counts a thread in, unless the last one has left already.
    fn thread_came(&self) -> bool {
        let mut records = self.records.lock();
        if records.threads == 0 {
            return false;
        }
        records.threads += 1;
        true
    }

    /// A thread runs in it no more. The last one takes everything down.
    pub(crate) fn thread_left(self: &Arc<Self>) {
        let last = {
            let mut records = self.records.lock();
            records.threads -= 1;
            records.threads == 0
        };
        if last {
            self.forget_all();
            let own = self.object.with_view(|place| match place {
                Some(view) if Arc::ptr_eq(view, self) => place.take(),
                _ => None,
            });
            self.object.unpin();
            drop(own);
        }
    }

    /// From now on no thread is started in it.
    pub(crate) fn refuse_threads(&self) {
        self.refuses_threads.store(true, Ordering::SeqCst);
    }

    /// Whether no thread may be started in it.
    pub(crate) fn refuses_threads(&self) -> bool {
        self.refuses_threads.load(Ordering::SeqCst)
    }

    pub(crate) fn root(&self) -> &Arc<Root> {
        &self.root
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // Nothing runs in it and nothing is mapped: what is left are tables without present entries.
        record::free_tables(&self.root);
    }
}
