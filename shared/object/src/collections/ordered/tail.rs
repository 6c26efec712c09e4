//! What has changed in a leaf since it was made.
//!
//! A leaf's entries, in the order of their keys, stay as they are for as long as the leaf lies there. Behind them, where there is room, later versions put
//! what they change: each an entry with its key, the version that put it there, and what it does to those before it, a *step*. So a change of a
//! committed leaf is one entry; and who reads version *n* sees the steps of versions up to *n*, whatever others put behind them. When no more fits, the leaf is
//! written anew, without a tail.
//!
//! A version is never 0 steps after the leaf's own, so a zero stands for an entry that is not there. It is one aligned word: whoever sees a version that counts for it sees
//! the whole step, since the map's number is stored after all else.
//!
//! A step says which place in the order of the leaf's entries it changes. So who doesn't know how keys compare finds the order as well.

use twizzler_abi::Error;

/// Entries of a tail at most.
pub(super) const TAIL_MAX: usize = 8;
/// Entries of a leaf that can have a tail, at most: what places of steps can say.
pub(super) const LEN_MAX: usize = 63;
/// Where in a leaf the steps are; one byte for each.
pub(super) const STEPS: usize = 24;
/// Where the versions are, counted from the leaf's own; four bytes for each.
pub(super) const VERSIONS: usize = 32;
/// Bytes of the head of a leaf that can have a tail.
pub(super) const LEAF_HEAD_BYTES: usize = VERSIONS + 4 * TAIL_MAX;

const _: () = assert!(STEPS + TAIL_MAX <= VERSIONS && LEAF_HEAD_BYTES == 64);

/// What an entry of a tail does to those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It is a new one.
    Insert,
    /// It takes another one's place.
    Replace,
    /// It says that another one is gone.
    Remove,
}

/// What an entry of a tail does, and at which place in the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) place: u8,
}

impl Step {
    /// As it is stored.
    pub(super) const fn encode(self) -> u8 {
        (self.kind as u8) << 6 | self.place
    }

    /// What was stored.
    pub(super) const fn decode(byte: u8) -> Result<Self, Error> {
        let kind = match byte >> 6 {
            0 => Kind::Insert,
            1 => Kind::Replace,
            2 => Kind::Remove,
            _ => return Err(Error::Damaged),
        };
        Ok(Self { kind, place: byte & 63 })
    }
}

/// The order of a leaf's entries: for each place, the number of the entry where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// None: as they lie.
    changed: Option<[u8; LEN_MAX]>,
    len: usize,
}

impl Order {
    /// As they lie.
    pub(super) const fn plain(len: usize) -> Self {
        Self { changed: None, len }
    }

    /// After a tail.
    pub(super) fn after(
        len: usize,
        steps: impl ExactSizeIterator<Item = Result<u8, Error>>,
    ) -> Result<Self, Error> {
        let mut order = Self::plain(len);
        if steps.len() == 0 {
            return Ok(order);
        }
        if len + steps.len() > LEN_MAX {
            return Err(Error::Damaged);
        }
        order.changed = Some(core::array::from_fn(|i| i as u8));
        for (i, step) in steps.enumerate() {
            order.apply(Step::decode(step?)?, (len + i) as u8)?;
        }
        Ok(order)
    }

    /// Goes one step further: the entry that does it lies at `number`.
    fn apply(&mut self, step: Step, number: u8) -> Result<(), Error> {
        let (place, len) = (usize::from(step.place), self.len);
        let order = self.changed.as_mut().ok_or(Error::Damaged)?;
        if place >= len + usize::from(step.kind == Kind::Insert) || len >= LEN_MAX {
            return Err(Error::Damaged);
        }
        match step.kind {
            Kind::Insert => {
                order.copy_within(place..len, place + 1);
                order[place] = number;
                self.len += 1;
            }
            Kind::Replace => order[place] = number,
            Kind::Remove => {
                order.copy_within(place + 1..len, place);
                self.len -= 1;
            }
        }
        Ok(())
    }

    /// How many entries there are.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Where the entry lies that is at a place.
    #[inline]
    pub(super) fn number(&self, place: usize) -> usize {
        match &self.changed {
            None => place,
            Some(order) => order.get(place).map_or(usize::MAX, |&number| number.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Insert), Just(Kind::Replace), Just(Kind::Remove)]
    }

    proptest! {
        #[test]
        fn the_order_is_what_the_steps_make_of_a_list(len in 0usize..50, steps in prop::collection::vec((kind(), 0u8..64), 0..TAIL_MAX)) {
            let mut model: Vec<usize> = (0..len).collect();
            let mut sound = true;
            for (i, &(kind, place)) in steps.iter().enumerate() {
                let at = usize::from(place);
                sound &= at < model.len() + usize::from(kind == Kind::Insert);
                if sound {
                    match kind {
                        Kind::Insert => model.insert(at, len + i),
                        Kind::Replace => model[at] = len + i,
                        Kind::Remove => drop(model.remove(at)),
                    }
                }
            }
            let bytes: Vec<_> = steps.iter().map(|&(kind, place)| Ok(Step { kind, place: place & 63 }.encode())).collect();
            match Order::after(len, bytes.into_iter()) {
                Ok(order) => {
                    prop_assert!(sound);
                    prop_assert!((0..order.len()).map(|place| order.number(place)).eq(model));
                }
                Err(error) => prop_assert!(!sound && error == Error::Damaged),
            }
        }

        #[test]
        fn a_step_is_what_was_stored(kind in kind(), place in 0u8..64) {
            let step = Step { kind, place };
            prop_assert_eq!(Step::decode(step.encode()), Ok(step));
        }
    }
}
