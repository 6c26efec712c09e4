//! A queue of bounded length, between programs.
//!
//! Sending and receiving are transactions, so what was received and what was done with it can be one change, and nothing is lost or
//! received twice. Who finds the queue empty, or full, waits for a word to change; who has committed wakes the other.

use twizzler_abi::Error;

use super::raw::steady;
use crate::Stored;
use crate::backend::Backend;
use crate::memory;
use crate::pointer::{InvSpan, Ptr};
use crate::reader::Reader;
use crate::space::Space;
use crate::stored::Value;
use crate::tx::Tx;

/// What a queue is in an object: put one into a record of your own. All zero is a queue without places.
#[derive(Stored)]
#[stored(name = "twizzler.queue", version = 1)]
#[repr(C)]
pub struct QueueRoot<T> {
    slots: InvSpan<T>,
    /// Values ever sent. On another line than what the receiver writes.
    sent: u64,
    reserved: [u64; 5],
    /// Values ever received.
    received: u64,
    reserved2: [u64; 7],
}

/// A queue whose root lies somewhere in an object.
pub struct Queue<'s, T> {
    root: Ptr<'s, QueueRoot<T>>,
}

impl<T> Clone for Queue<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Queue<'_, T> {}
impl<T> core::fmt::Debug for Queue<'_, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "queue at {:?}", self.root)
    }
}

impl<'s, T: Value> Queue<'s, T> {
    /// The queue of that root.
    #[must_use]
    pub const fn new(root: Ptr<'s, QueueRoot<T>>) -> Self {
        Self { root }
    }

    /// Gives an empty queue its places, and frees those that it had.
    ///
    /// # Errors
    /// [`Error::Busy`] for a queue with values; as [`Tx::alloc`].
    pub fn set_capacity<B: Backend>(&self, tx: &mut Tx<'s, B>, capacity: u64) -> Result<(), Error> {
        tx.lock(self.root.object())?;
        if !self.is_empty(tx) {
            return Err(Error::Busy);
        }
        let old = tx.follow_span(self.root.at(QueueRoot::<T>::slots))?;
        // First: where there is no room for them, it keeps those that it has.
        let slots = tx.alloc_span(self.root.object(), capacity)?;
        tx.link_span(self.root.at(QueueRoot::<T>::slots), slots)?;
        tx.free_span(old)
    }

    fn count(&self, reader: &impl Reader<'s>) -> (u64, u64) {
        let received = reader.get(self.root.at(QueueRoot::<T>::received));
        (reader.get(self.root.at(QueueRoot::<T>::sent)), received)
    }

    /// Number of values that wait.
    #[must_use]
    pub fn len(&self, reader: &impl Reader<'s>) -> u64 {
        let (sent, received) = self.count(reader);
        sent.wrapping_sub(received)
    }

    /// True where none waits.
    #[must_use]
    pub fn is_empty(&self, reader: &impl Reader<'s>) -> bool {
        self.len(reader) == 0
    }

    /// Sends a value. False: there is no place for it.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn send<B: Backend>(&self, tx: &mut Tx<'s, B>, value: T) -> Result<bool, Error> {
        tx.lock(self.root.object())?;
        let slots = tx.follow_span(self.root.at(QueueRoot::<T>::slots))?;
        let (sent, received) = self.count(tx);
        if sent.wrapping_sub(received) >= slots.len() {
            return Ok(false);
        }
        tx.set(slots.index(sent % slots.len()).ok_or(Error::Damaged)?, value)?;
        tx.set(self.root.at(QueueRoot::<T>::sent), sent.wrapping_add(1))?;
        Ok(true)
    }

    /// Receives the oldest value; None where none waits.
    ///
    /// # Errors
    /// [`Error::Damaged`]; what the transaction says.
    pub fn receive<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<T>, Error> {
        tx.lock(self.root.object())?;
        let slots = tx.follow_span(self.root.at(QueueRoot::<T>::slots))?;
        let (sent, received) = self.count(tx);
        let waiting = sent.wrapping_sub(received);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > slots.len() {
            return Err(Error::Damaged);
        }
        let value = tx.get(slots.index(received % slots.len()).ok_or(Error::Damaged)?);
        tx.set(self.root.at(QueueRoot::<T>::received), received.wrapping_add(1))?;
        Ok(Some(value))
    }

    /// Waits while the queue is empty, at most `timeout_ns`; may return early.
    pub fn wait_for_value<B: Backend>(&self, space: &Space<B>, reader: &impl Reader<'s>, timeout_ns: u64) {
        let (sent, received) = self.count(reader);
        if sent == received {
            space.backend().wait(memory::word(self.root.at(QueueRoot::<T>::sent)), sent, timeout_ns);
        }
    }

    /// Waits while the queue is full, at most `timeout_ns`; may return early.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn wait_for_place<B: Backend>(
        &self,
        space: &Space<B>,
        reader: &impl Reader<'s>,
        timeout_ns: u64,
    ) -> Result<(), Error> {
        let (slots, (sent, received)) = steady(reader, self.root.object(), || {
            Ok((reader.follow_span(self.root.at(QueueRoot::<T>::slots))?, self.count(reader)))
        })?;
        if sent.wrapping_sub(received) >= slots.len() {
            space.backend().wait(memory::word(self.root.at(QueueRoot::<T>::received)), received, timeout_ns);
        }
        Ok(())
    }

    /// Wakes who waits for a value, or for a place: to be called after a commit that sent, or received.
    pub fn wake<B: Backend>(&self, space: &Space<B>) {
        space.backend().wake(memory::word(self.root.at(QueueRoot::<T>::sent)));
        space.backend().wake(memory::word(self.root.at(QueueRoot::<T>::received)));
    }
}
