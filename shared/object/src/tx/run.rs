//! Running transactions: begin, and again where they conflict.

use alloc::boxed::Box;
use core::mem::ManuallyDrop;

use twizzler_abi::Error;

use super::{State, Tx};
use crate::backend::Backend;
use crate::guard::Guard;
use crate::lane::Lane;
use crate::lock::Refused;
use crate::spare::Entered;

impl<B: Backend> Guard<'_, B> {
    /// Begins a transaction, to be ended by [`Tx::commit`] or [`Tx::abort`]. Prefer [`Guard::transact`], which runs it again where it
    /// conflicts with another one: here that is [`Error::Busy`].
    ///
    /// # Errors
    /// [`Error::Nested`] where this thread is in a transaction of this space already: part of one is [`Tx::savepoint`]. What making a lane
    /// says; [`Error::TooMany`] where [`crate::LANES_MAX`] transactions run for 10 seconds.
    pub fn begin(&self) -> Result<Tx<'_, B>, Error> {
        self.backend().may_change()?;
        let (entered, lane) = self.take_lane(self.thread())?;
        Ok(self.begin_with(entered, lane))
    }

    /// Begins one that may lie within another one of the same thread, since it locks nothing.
    pub(crate) fn begin_apart(&self) -> Result<Tx<'_, B>, Error> {
        self.backend().may_change()?;
        let (entered, lane) = self.take_lane_apart()?;
        Ok(self.begin_with(entered, lane))
    }

    fn begin_with(&self, entered: Entered, lane: Box<Lane>) -> Tx<'_, B> {
        let lane = ManuallyDrop::new(lane);
        let mut tx = Tx { guard: self, space: self.space(), lane, entered, state: State::Open };
        tx.restart();
        tx
    }

    /// Runs `change` in a transaction: commits where it returns `Ok`, undoes everything where it returns an error or panics.
    ///
    /// Where it conflicts with other transactions it is undone and runs again, so it should change nothing but through the
    /// transaction; only the last run counts. A run that is going to be undone may have read values that don't belong together; errors
    /// that it returns then don't count either.
    ///
    /// # Errors
    /// Those of `change`, of [`Guard::begin`] and of [`Tx::commit`].
    pub fn transact<'g, R, E: From<Error>>(
        &'g self,
        mut change: impl FnMut(&mut Tx<'g, B>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut tx = self.begin()?;
        loop {
            let result = change(&mut tx);
            let result = match result {
                Ok(value) => tx.settle().map(|()| value).map_err(E::from),
                result => result,
            };
            if !tx.work().conflict.get() {
                drop(tx);
                if result.is_ok() {
                    self.publish_descriptions();
                }
                return result;
            }
            tx.rerun()?;
        }
    }

    /// The same for a `change` that can't run twice: a conflict with another transaction is [`Error::Busy`].
    ///
    /// # Errors
    /// As [`Guard::transact`].
    pub fn transact_once<'g, R, E: From<Error>>(
        &'g self,
        change: impl FnOnce(&mut Tx<'g, B>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut tx = self.begin()?;
        let result = change(&mut tx).and_then(|value| tx.settle().map(|()| value).map_err(E::from));
        if tx.work().conflict.get() {
            return Err(Error::Busy.into());
        }
        drop(tx);
        if result.is_ok() {
            self.publish_descriptions();
        }
        result
    }
}

impl<B: Backend> Tx<'_, B> {
    /// Begins anew, with nothing done and nothing locked.
    fn restart(&mut self) {
        let stages_objects = self.stages();
        self.work_mut().clear(stages_objects);
        self.lane.transaction += 1;
        self.state = State::Open;
    }

    /// Undoes this run and begins another one, as old as this.
    #[cold]
    fn rerun(&mut self) -> Result<(), Error> {
        self.undo();
        self.space.release_all(&mut self.lane.held.borrow_mut());
        self.restart();
        let taken = {
            let held = &mut *self.lane.held.borrow_mut();
            let taken = self.space.take_wanted(held);
            self.work().seen.set(core::mem::take(&mut held.seen));
            taken
        };
        match taken {
            Ok(()) => Ok(()),
            // Who holds nothing waits for everybody.
            Err(Refused::Conflict) => Err(Error::Busy),
            Err(Refused::System(error)) => Err(error),
        }
    }
}
