//! Savepoints: transactions within a transaction.

use twizzler_abi::Error;

use super::Tx;
use super::overlay::Overlay;
use crate::backend::Backend;

/// What there was when a savepoint began.
struct Saved {
    overlay: Overlay,
    created: usize,
    deletes: usize,
    frees: usize,
    entries: usize,
    freed_entries: usize,
    staged_bytes: u64,
}

impl<B: Backend> Tx<'_, B> {
    /// Runs `change` as part of the transaction: where it returns an error, what it has done is undone, and the transaction can go on as if it
    /// had not been tried. Nests. Locks that it took are kept.
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
            staged_bytes: work.staged_bytes,
        };
        // What was written in place before is staged from here on, since it can't be taken back.
        let before = work.fresh.begin_inner();
        let result = change(self);
        if result.is_err() {
            self.forget_entries(saved.entries);
            self.forget_freed_entries(saved.freed_entries);
            self.delete_created(saved.created);
            let work = self.work_mut();
            work.overlay = saved.overlay;
            work.deletes.truncate(saved.deletes);
            work.frees.truncate(saved.frees);
            work.staged_bytes = saved.staged_bytes;
            work.last.set(0);
        }
        self.work_mut().fresh.end_inner(before, result.is_ok());
        result
    }
}
