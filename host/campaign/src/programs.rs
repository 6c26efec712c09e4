//! Programs of one simulated machine: what one of them does can be cut into by another one, at any step.

use std::cell::Cell;

use twizzler_abi::Error;
use twizzler_object::Space;

use crate::hooked::{Hooked, Hooks, Step};
use crate::objects::SimObjects;

/// One of the programs of a machine. Each has a lane of its own.
pub struct Program<'h> {
    number: u64,
    cut: Option<Cut<'h>>,
}

/// Where another one cuts in.
struct Cut<'h> {
    /// Steps until then; none is left: it has been there.
    left: Cell<u64>,
    then: &'h dyn Fn(),
    /// Steps that count.
    counts: fn(Step) -> bool,
}

/// A backend under a program.
pub type Under<'h, 'm> = Hooked<&'h SimObjects<'m>, Program<'h>>;

impl<'h> Program<'h> {
    /// A program that nobody cuts into.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self { number, cut: None }
    }

    /// A program that calls `then` before the step number `at`, from 1 on, of those for which `counts` says so; if it comes so far.
    #[must_use]
    pub const fn cut_at(number: u64, at: u64, counts: fn(Step) -> bool, then: &'h dyn Fn()) -> Self {
        Self { number, cut: Some(Cut { left: Cell::new(at), then, counts }) }
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Space::attach`]'s.
    pub fn start<'m>(self, machine: &'h SimObjects<'m>) -> Result<Space<Under<'h, 'm>>, Error> {
        Space::attach(Hooked::new(machine, self))
    }
}

impl<'m> Hooks<&SimObjects<'m>> for Program<'_> {
    fn step(&self, step: Step) {
        let Some(cut) = self.cut.as_ref().filter(|cut| cut.left.get() > 0 && (cut.counts)(step)) else {
            return;
        };
        cut.left.set(cut.left.get() - 1);
        if cut.left.get() == 0 {
            (cut.then)();
        }
    }

    fn owner(&self, below: &&SimObjects<'m>) -> u64 {
        (*below).owner_of(self.number)
    }
}
