//! Commit by a log that the backend keeps ([`crate::backend::Sink::Log`]): the record is durable first, then it is in place.
//!
//! Mapped memory may be written back at any moment, so nothing of the transaction is in it before, but for large fresh blocks, which
//! nobody can reach: those are synced before the record that makes them reachable.

use twizzler_abi::Error;
use twizzler_abi::address::{SLOT_BYTES, Slot};

use super::Tx;
use crate::backend::{Backend, Commit};
use crate::journal::LOG_SEED;
use crate::space::area_of;

impl<B: Backend> Tx<'_, B> {
    /// The part of [`Tx::commit`] after everything is staged.
    pub(super) fn commit_by_log(&mut self) -> Result<(), Error> {
        let backend = self.space.backend();
        for (address, len_bytes) in self.fresh.blocks() {
            let slot = Slot::of(address).expect("fresh blocks lie in mapped objects");
            let id = self.space.mapped(area_of(slot))?.id;
            backend.sync(id, address % SLOT_BYTES, len_bytes)?;
        }
        let (changed, words) = self.record(LOG_SEED)?;
        let ticket = backend.log(&Commit { words: &words, created: &self.created })?;
        // COMMIT: the record is durable, and all that it will make reachable.
        self.committed = true;
        self.apply_all(&changed)?;
        let deleted = self.delete_all();
        backend.applied(ticket);
        deleted
    }
}
