//! The transactions, of the programming model.

use std::time::Duration;

use twizzler_abi::{Error, ObjId};
use twizzler_object::{Access, Guard, InvPtr, Ptr, Reader, Space, Stored, Tx};

use super::Operation;
use crate::backend::Memory;
use crate::clock::Stopwatch;

/// What transactions change.
#[derive(Stored)]
#[stored(name = "bench.tx-area", version = 1)]
#[repr(C)]
struct Area {
    words: [u64; 64],
    page: [u8; 4096],
    block: InvPtr<Block>,
}

/// What they allocate.
#[derive(Stored)]
#[stored(name = "bench.tx-block", version = 1)]
#[repr(C)]
struct Block {
    bytes: [u64; 8],
}

/// Two objects to work on.
pub(super) struct Bench<'b> {
    space: Space<&'b Memory>,
    ids: [ObjId; 2],
}

impl<'b> Bench<'b> {
    pub(super) fn new(backend: &'b Memory) -> Result<Self, Error> {
        let space = Space::attach(backend)?;
        let make = || {
            space.transact(|tx| {
                let object = tx.create::<Area>()?;
                Ok::<_, Error>(tx.space().id_of(object.area()))
            })
        };
        let ids = [make()?, make()?];
        Ok(Self { space, ids })
    }

    /// Processor time of so many operations; each thread has an object of its own.
    pub(super) fn run(&self, operation: Operation, thread: usize, number: u64) -> Duration {
        self.try_run(operation, thread, number).expect("memory suffices, and nobody else works on it")
    }

    /// The same; the error of the first transaction that fails.
    pub(super) fn try_run(
        &self,
        operation: Operation,
        thread: usize,
        number: u64,
    ) -> Result<Duration, Error> {
        let guard = &self.space.enter();
        let area = guard.open::<Area>(self.ids[thread], Access::Write)?.base();
        let other = guard.open::<Area>(self.ids[1 - thread], Access::Write)?.base();
        let clock = Stopwatch::start();
        match operation {
            Operation::Empty => repeat(guard, number, |_, _| Ok(())),
            Operation::Write8 => repeat(guard, number, |tx, i| tx.set(word(area, 0)?, i)),
            Operation::Ranges8 => {
                repeat(guard, number, |tx, i| (0..8).try_for_each(|n| tx.set(word(area, n * 8)?, i)))
            }
            Operation::Write4K => {
                repeat(guard, number, |tx, i| tx.write(area.at(Area::page).span(), 0, &[i as u8; 4096]))
            }
            Operation::Replace => repeat(guard, number, |tx, _| {
                free(tx, area)?;
                allocate(tx, area)
            }),
            Operation::AllocThenFree => (0..number).try_for_each(|_| {
                guard.transact(|tx| allocate(tx, area))?;
                guard.transact(|tx| {
                    free(tx, area)?;
                    tx.link(area.at(Area::block), None)
                })
            }),
            Operation::TwoObjects => repeat(guard, number, |tx, i| {
                tx.set(word(area, 0)?, i)?;
                tx.set(word(other, 0)?, i)
            }),
        }?;
        let took = clock.elapsed();
        guard.transact(|tx| {
            free(tx, area)?;
            tx.link(area.at(Area::block), None)
        })?;
        Ok(took)
    }
}

fn repeat<'g, 'b>(
    guard: &'g Guard<'g, &'b Memory>,
    number: u64,
    mut change: impl FnMut(&mut Tx<'g, &'b Memory>, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    (0..number).try_for_each(|i| guard.transact(|tx| change(tx, i)))
}

fn word(area: Ptr<'_, Area>, index: usize) -> Result<Ptr<'_, u64>, Error> {
    area.at(Area::words).index(index).ok_or(Error::OutOfRange)
}

fn allocate<'s>(tx: &mut Tx<'s, &Memory>, area: Ptr<'s, Area>) -> Result<(), Error> {
    let block = tx.alloc::<Block>(area.object())?;
    tx.link(area.at(Area::block), Some(block))
}

fn free<'s>(tx: &mut Tx<'s, &Memory>, area: Ptr<'s, Area>) -> Result<(), Error> {
    match tx.follow(area.at(Area::block))? {
        Some(block) => tx.free(block),
        None => Ok(()),
    }
}
