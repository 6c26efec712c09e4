//! Pointers that own what they point to: boxes, and counted pointers with weak ones.
//!
//! There is no drop glue in an object: what owns is freed by name, in a transaction, and whoever frees says what else goes with it.

use twizzler_abi::Error;

use crate::Stored;
use crate::backend::Backend;
use crate::pointer::{Area, InvPtr, Ptr};
use crate::reader::Reader;
use crate::tx::Tx;

/// A pointer that owns its target. All zero is an empty one.
#[derive(Stored)]
#[stored(name = "twizzler.box", version = 1)]
#[repr(C)]
pub struct InvBox<T> {
    target: InvPtr<T>,
}

impl<T: Stored> InvBox<T> {
    /// What the box at a place owns.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn open<'s>(reader: &impl Reader<'s>, place: Ptr<'s, Self>) -> Result<Option<Ptr<'s, T>>, Error> {
        reader.follow(place.at(Self::target))
    }

    /// Makes a `T` of zeros in `area`, and the box at a place its owner.
    ///
    /// # Errors
    /// [`Error::Exists`] where the box is not empty; as [`Tx::alloc`].
    pub fn fill<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        place: Ptr<'s, Self>,
        area: Area<'s>,
    ) -> Result<Ptr<'s, T>, Error> {
        tx.lock(place.object())?;
        if Self::open(tx, place)?.is_some() {
            return Err(Error::Exists);
        }
        let target = tx.alloc::<T>(area)?;
        if let Err(error) = tx.link(place.at(Self::target), Some(target)) {
            tx.free(target)?;
            return Err(error);
        }
        Ok(target)
    }

    /// Moves what one box owns to another, which must be empty.
    ///
    /// # Errors
    /// [`Error::Exists`] where it is not; as [`Tx::link`].
    pub fn give<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        from: Ptr<'s, Self>,
        to: Ptr<'s, Self>,
    ) -> Result<(), Error> {
        tx.lock(from.object())?;
        tx.lock(to.object())?;
        if Self::open(tx, to)?.is_some() {
            return Err(Error::Exists);
        }
        let target = Self::open(tx, from)?;
        // First: where the one can't point there, the other goes on owning it.
        tx.link(to.at(Self::target), target)?;
        tx.link(from.at(Self::target), None)
    }

    /// Empties the box at a place: hands what it owns to `before`, which frees what that owns in turn, and then frees it.
    ///
    /// # Errors
    /// Those of `before`; as [`Tx::free`].
    pub fn free<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        place: Ptr<'s, Self>,
        before: impl FnOnce(&mut Tx<'s, B>, Ptr<'s, T>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        tx.lock(place.object())?;
        let Some(target) = Self::open(tx, place)? else { return Ok(()) };
        before(tx, target)?;
        tx.link(place.at(Self::target), None)?;
        tx.free(target)
    }
}

/// What counted pointers share.
#[derive(Stored)]
#[stored(name = "twizzler.counted", version = 1)]
#[repr(C)]
pub(super) struct Counted<T> {
    strong: u64,
    /// Weak pointers, and one for all strong ones together.
    weak: u64,
    value: T,
}

/// A counted pointer: its target lives as long as one of them points to it. All zero is an empty one.
#[derive(Stored)]
#[stored(name = "twizzler.rc", version = 1)]
#[repr(C)]
pub struct InvRc<T> {
    target: InvPtr<Counted<T>>,
}

/// A pointer to the target of counted pointers that does not keep it alive. All zero is an empty one.
#[derive(Stored)]
#[stored(name = "twizzler.weak", version = 1)]
#[repr(C)]
pub struct InvWeak<T> {
    target: InvPtr<Counted<T>>,
}

/// Adds to a count.
fn count<'s, B: Backend>(tx: &mut Tx<'s, B>, place: Ptr<'s, u64>, up: bool) -> Result<u64, Error> {
    tx.lock(place.object())?;
    let old = tx.get(place);
    let new = if up { old.checked_add(1) } else { old.checked_sub(1) }.ok_or(Error::Damaged)?;
    tx.set(place, new)?;
    Ok(new)
}

/// Makes an empty pointer one more that is counted.
fn point<'s, B: Backend, T: Stored>(
    tx: &mut Tx<'s, B>,
    from: Ptr<'s, InvPtr<T>>,
    target: Ptr<'s, T>,
    counter: Ptr<'s, u64>,
) -> Result<(), Error> {
    // First what may fail, and then has changed nothing.
    tx.lock(target.object())?;
    tx.link(from, Some(target))?;
    count(tx, counter, true).map(drop).map_err(|error| tx.tear(error))
}

impl<T: Stored> InvRc<T> {
    /// What the pointer at a place points to.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn open<'s>(reader: &impl Reader<'s>, place: Ptr<'s, Self>) -> Result<Option<Ptr<'s, T>>, Error> {
        Ok(reader.follow(place.at(Self::target))?.map(|target| target.at(Counted::<T>::value)))
    }

    /// How many counted pointers point to the same.
    ///
    /// # Errors
    /// As [`Reader::follow`].
    pub fn strong_count<'s>(reader: &impl Reader<'s>, place: Ptr<'s, Self>) -> Result<u64, Error> {
        let target = reader.follow(place.at(Self::target))?;
        Ok(target.map_or(0, |target| reader.get(target.at(Counted::<T>::strong))))
    }

    /// Makes a `T` of zeros in `area`, to which the pointer at a place is the first.
    ///
    /// # Errors
    /// [`Error::Exists`] where the pointer is not empty; as [`Tx::alloc`].
    pub fn fill<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        place: Ptr<'s, Self>,
        area: Area<'s>,
    ) -> Result<Ptr<'s, T>, Error> {
        tx.lock(place.object())?;
        if Self::open(tx, place)?.is_some() {
            return Err(Error::Exists);
        }
        let target = tx.alloc::<Counted<T>>(area)?;
        if let Err(error) = tx.link(place.at(Self::target), Some(target)) {
            tx.free(target)?;
            return Err(error);
        }
        tx.set(target.at(Counted::<T>::strong), 1)?;
        tx.set(target.at(Counted::<T>::weak), 1)?;
        Ok(target.at(Counted::<T>::value))
    }

    /// Makes the empty pointer at `to` point to what that at `from` does.
    ///
    /// # Errors
    /// [`Error::Exists`] where it is not empty; as [`Tx::link`].
    pub fn share<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        from: Ptr<'s, Self>,
        to: Ptr<'s, Self>,
    ) -> Result<(), Error> {
        tx.lock(to.object())?;
        if Self::open(tx, to)?.is_some() {
            return Err(Error::Exists);
        }
        let Some(target) = tx.follow(from.at(Self::target))? else { return Ok(()) };
        point(tx, to.at(Self::target), target, target.at(Counted::<T>::strong))
    }

    /// Makes the empty weak pointer at `to` point to what that at `from` does.
    ///
    /// # Errors
    /// [`Error::Exists`] where it is not empty; as [`Tx::link`].
    pub fn downgrade<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        from: Ptr<'s, Self>,
        to: Ptr<'s, InvWeak<T>>,
    ) -> Result<(), Error> {
        tx.lock(to.object())?;
        if tx.follow(to.at(InvWeak::<T>::target))?.is_some() {
            return Err(Error::Exists);
        }
        let Some(target) = tx.follow(from.at(Self::target))? else { return Ok(()) };
        point(tx, to.at(InvWeak::<T>::target), target, target.at(Counted::<T>::weak))
    }

    /// Empties the pointer at a place. If it was the last, hands the target to `before`, which frees what that owns, and then ends it. True
    /// if it was.
    ///
    /// # Errors
    /// Those of `before`; [`Error::Damaged`]; as [`Tx::free`].
    pub fn release<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        place: Ptr<'s, Self>,
        before: impl FnOnce(&mut Tx<'s, B>, Ptr<'s, T>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        tx.lock(place.object())?;
        let Some(target) = tx.follow(place.at(Self::target))? else { return Ok(false) };
        tx.lock(target.object())?;
        tx.whole(|tx| {
            tx.link(place.at(Self::target), None)?;
            if count(tx, target.at(Counted::<T>::strong), false)? > 0 {
                return Ok(false);
            }
            before(tx, target.at(Counted::<T>::value))?;
            if count(tx, target.at(Counted::<T>::weak), false)? == 0 {
                tx.free(target)?;
            }
            Ok(true)
        })
    }
}

impl<T: Stored> InvWeak<T> {
    /// Makes the empty counted pointer at `to` point to the target, if that still lives. True if so.
    ///
    /// # Errors
    /// [`Error::Exists`] where it is not empty; as [`Tx::link`].
    pub fn upgrade<'s, B: Backend>(
        tx: &mut Tx<'s, B>,
        from: Ptr<'s, Self>,
        to: Ptr<'s, InvRc<T>>,
    ) -> Result<bool, Error> {
        tx.lock(to.object())?;
        if InvRc::open(tx, to)?.is_some() {
            return Err(Error::Exists);
        }
        let Some(target) = tx.follow(from.at(Self::target))? else { return Ok(false) };
        tx.lock(target.object())?;
        if tx.get(target.at(Counted::<T>::strong)) == 0 {
            return Ok(false);
        }
        point(tx, to.at(InvRc::<T>::target), target, target.at(Counted::<T>::strong))?;
        Ok(true)
    }

    /// Empties the weak pointer at a place.
    ///
    /// # Errors
    /// [`Error::Damaged`]; as [`Tx::free`].
    pub fn release<'s, B: Backend>(tx: &mut Tx<'s, B>, place: Ptr<'s, Self>) -> Result<(), Error> {
        tx.lock(place.object())?;
        let Some(target) = tx.follow(place.at(Self::target))? else { return Ok(()) };
        tx.lock(target.object())?;
        tx.whole(|tx| {
            tx.link(place.at(Self::target), None)?;
            if count(tx, target.at(Counted::<T>::weak), false)? == 0 {
                tx.free(target)?;
            }
            Ok(())
        })
    }
}
