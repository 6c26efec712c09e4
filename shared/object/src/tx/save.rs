//! Savepoints: transactions within a transaction.

use core::mem;

use twizzler_abi::Error;

use super::Tx;
use super::fresh::Outer;
use super::overlay::Overlay;
use super::work::LastLocked;
use crate::backend::Backend;

/// What there was when a savepoint began.
struct Saved {
    overlay: Overlay,
    created: usize,
    deletes: usize,
    frees: usize,
    entries: usize,
    freed_entries: usize,
    stamps: usize,
    staged_bytes: u64,
    torn: Option<Error>,
}

impl<B: Backend> Tx<'_, B> {
    /// Runs `change` as part of the transaction: where it returns an error, what it has done is undone, and the transaction can go on as if it
    /// had not been tried. So it is where it panics and the panic is caught within the transaction. Nests. Locks that it took are kept.
    ///
    /// Costs a copy of what is staged so far.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn savepoint<R, E>(&mut self, change: impl FnOnce(&mut Self) -> Result<R, E>) -> Result<R, E>
    where
        E: From<Error>,
    {
        self.doomed()?;
        let work = self.work_mut();
        let saved = Saved {
            overlay: work.overlay.clone(),
            created: work.created.len(),
            deletes: work.deletes.len(),
            frees: work.frees.len(),
            entries: work.entries.len(),
            freed_entries: work.freed_entries.len(),
            stamps: work.stamps.len(),
            staged_bytes: work.staged_bytes,
            torn: work.torn,
        };
        // What was written in place before is staged from here on, since it can't be taken back.
        let before = work.fresh.begin_inner();
        let trial = Trial { tx: self, saved: Some(saved), before };
        let result = change(trial.tx);
        if result.is_ok() {
            trial.keep();
        }
        result
    }
}

/// A savepoint that is tried. Dropped without [`Trial::keep`], also by a panic, it is undone.
struct Trial<'t, 'g, B: Backend> {
    tx: &'t mut Tx<'g, B>,
    /// None once it is to be kept.
    saved: Option<Saved>,
    before: Outer,
}

impl<B: Backend> Trial<'_, '_, B> {
    fn keep(mut self) {
        self.saved = None;
    }
}

impl<B: Backend> Drop for Trial<'_, '_, B> {
    fn drop(&mut self) {
        let saved = self.saved.take();
        let kept = saved.is_none();
        if let Some(saved) = saved {
            self.tx.forget_entries(saved.entries);
            self.tx.forget_freed_entries(saved.freed_entries);
            self.tx.delete_created(saved.created);
            let work = self.tx.work_mut();
            work.overlay = saved.overlay;
            work.deletes.truncate(saved.deletes);
            work.frees.truncate(saved.frees);
            work.stamps.truncate(saved.stamps);
            work.staged_bytes = saved.staged_bytes;
            work.torn = saved.torn;
            work.last.set(LastLocked::default());
        }
        self.tx.work_mut().fresh.end_inner(mem::take(&mut self.before), kept);
    }
}
