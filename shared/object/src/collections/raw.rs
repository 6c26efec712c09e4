//! Values in private copies of object memory.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use twizzler_abi::Error;

use crate::keeps::Keep;
use crate::memory;
use crate::pointer::{Area, InvPtr, Ptr};
use crate::reader::Reader;
use crate::recover::version_word;
use crate::stored::{Stored, Value};

/// Looks before a reader waits, and how often it does.
const LOOKS: usize = 200;
const WAITS: usize = 100;

/// What a map is of, to the type checker.
pub(super) type Types<K, V> = PhantomData<(fn() -> *const K, fn() -> *const V)>;

/// Keeps the memory of an object for an iteration that reads without a lock.
pub(super) fn kept<'s>(reader: &impl Reader<'s>, area: Area<'s>) -> Result<Option<Keep<'s>>, Error> {
    reader.keep(version_word(area))
}

/// Looks at an object until nobody has changed it meanwhile: so what `read` gives belongs together. It should be short, and do nothing but read. What it says
/// of a look beside a change is not believed.
#[inline(always)]
pub(super) fn steady<'s, R: Reader<'s>, T>(
    reader: &R,
    area: Area<'s>,
    mut read: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut look = Look::new(reader, area);
    // `read` is called at one place alone, so that it is inlined there.
    loop {
        if look.begin() {
            let result = read();
            if look.held() {
                return result;
            }
        }
        look.again()?;
    }
}

/// The looks of [`steady`], one by one, for who wants nothing between him and what he reads: closures that are called at several places are not inlined.
pub(super) struct Look<'r, 's, R> {
    reader: &'r R,
    area: Area<'s>,
    changes: Option<&'s AtomicU64>,
    before: u64,
    looks: usize,
}

impl<'r, 's, R: Reader<'s>> Look<'r, 's, R> {
    #[inline(always)]
    pub(super) fn new(reader: &'r R, area: Area<'s>) -> Self {
        Self { reader, area, changes: reader.changes(area), before: 0, looks: 0 }
    }

    /// True if it may look now: nobody changes the object.
    #[inline(always)]
    pub(super) fn begin(&mut self) -> bool {
        // Acquire: pairs with the release at the end of a change.
        self.before = self.changes.map_or(0, |changes| changes.load(Ordering::Acquire));
        self.before & 1 == 0
    }

    /// True if nobody has changed it since.
    #[inline(always)]
    pub(super) fn held(&self) -> bool {
        // Acquire: pairs with the release at the beginning of a change.
        fence(Ordering::Acquire);
        self.changes.is_none_or(|changes| changes.load(Ordering::Relaxed) == self.before)
    }

    /// Otherwise, before the next look.
    #[inline(always)]
    pub(super) fn again(&mut self) -> Result<(), Error> {
        // By value, so that all of it stays in registers.
        self.looks = before_another_look(self.reader, self.area, self.looks)?;
        Ok(())
    }
}

/// Waits a little after a look beside a change, and now and then until nobody changes the object. Takes and gives how many looks there were.
#[cold]
#[inline(never)]
fn before_another_look<'s>(reader: &impl Reader<'s>, area: Area<'s>, looks: usize) -> Result<usize, Error> {
    let looks = looks + 1;
    if !looks.is_multiple_of(LOOKS) {
        core::hint::spin_loop();
        return Ok(looks);
    }
    if looks >= LOOKS * WAITS {
        return Err(Error::Interrupted);
    }
    // Whoever changes it is not running, or was killed. A thread that has locks itself can't wait for others.
    match reader.wait_for_changes(area) {
        Ok(()) | Err(Error::Nested) => Ok(looks),
        Err(error) => Err(error),
    }
}

/// The value whose bytes are at `at`.
///
/// # Panics
/// Beyond the end.
pub(super) fn value_at<T: Value>(bytes: &[u8], at: usize) -> T {
    const { T::LAYOUT };
    let part = &bytes[at..at + size_of::<T>()];
    // SAFETY: the slice has as many bytes as a `T`, all initialised, and every bit pattern is one.
    unsafe { part.as_ptr().cast::<T>().read_unaligned() }
}

/// The bytes of a value.
pub(super) fn bytes_of<T: Value>(value: &T) -> &[u8] {
    memory::bytes_of(value)
}

/// The bytes of values.
pub(super) const fn slice_bytes<T: Value>(values: &[T]) -> &[u8] {
    const { T::LAYOUT };
    // SAFETY: a stored type has no padding, so all bytes of the slice are initialised; they live as long as it.
    unsafe { core::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// `at`, or what follows it and is aligned for a `T`.
pub(super) const fn aligned<T: Stored>(at: usize) -> usize {
    at.next_multiple_of(align_of::<T>())
}

/// The offset that a pointer into its own object leads to: not yet checked, and no offset at all if it leads elsewhere. 0: null.
#[inline(always)]
pub(super) fn local<'s, T>(reader: &impl Reader<'s>, place: Ptr<'s, InvPtr<T>>) -> u64 {
    reader.get(place.bits())
}
