//! Stored forms of what has invalid bit patterns: enums and truth values.

use core::fmt;
use core::marker::PhantomData;

use twizzler_abi::Error;

use super::{Fingerprint, Shape, Stored, Value};

/// An enum without fields, which may lie in an object as a [`Choice`]. Derive it:
///
/// ```
/// use twizzler_object::{Choice, StoredEnum};
///
/// #[derive(StoredEnum, Clone, Copy, PartialEq, Debug)]
/// #[stored(name = "example.colour", version = 1)]
/// #[repr(u8)]
/// enum Colour { None = 0, Red = 1, Green = 2 }
///
/// let stored: Choice<Colour> = Choice::new(Colour::Red);
/// assert_eq!(stored.get(), Ok(Colour::Red));
/// ```
///
/// New memory reads as zeros: give 0 a meaning.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an enum that can be stored",
    note = "an enum without fields can: #[derive(StoredEnum, Clone, Copy)] #[stored(name = \"..\", version = 1)] #[repr(u8)]"
)]
pub trait StoredEnum: Copy + 'static {
    /// The integer that stands for it: `u8`, `u16` or `u32`.
    type Number: Value + PartialEq + Into<u64>;
    /// Declared name.
    const NAME: &'static str;
    /// Identifies name, version, and each variant's name and number.
    const FINGERPRINT: u64;
    /// Declared version.
    const VERSION: u64;
    /// All variants, by name and number.
    const VARIANTS: &'static [(&'static str, u64)];
    /// The number of a variant.
    fn number(self) -> Self::Number;
    /// The variant of a number.
    fn from_number(number: Self::Number) -> Option<Self>;
}

/// An enum as it lies in an object: a number, which may or may not be that of a variant.
#[repr(transparent)]
pub struct Choice<E: StoredEnum> {
    number: E::Number,
    variants: PhantomData<fn() -> E>,
}

// SAFETY: transparent over an integer, of which every bit pattern is a value.
unsafe impl<E: StoredEnum> Stored for Choice<E> {
    const NAME: &'static str = E::NAME;
    const FINGERPRINT: u64 = Fingerprint::new("choice", 1).word(E::FINGERPRINT).finish();
    const LAYOUT: () = E::Number::LAYOUT;
    const SHAPE: Shape = Shape::Choice { version: E::VERSION, variants: E::VARIANTS };
}

impl<E: StoredEnum> Choice<E> {
    /// A variant.
    #[must_use]
    pub fn new(variant: E) -> Self {
        Self { number: variant.number(), variants: PhantomData }
    }

    /// Which variant it is.
    ///
    /// # Errors
    /// [`Damaged`] for a number that no variant has.
    pub fn get(self) -> Result<E, Damaged> {
        E::from_number(self.number).ok_or(Damaged { name: E::NAME, number: self.number.into() })
    }
}

impl<E: StoredEnum> Clone for Choice<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: StoredEnum> Copy for Choice<E> {}
impl<E: StoredEnum> PartialEq for Choice<E> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl<E: StoredEnum> Eq for Choice<E> {}
impl<E: StoredEnum> From<E> for Choice<E> {
    fn from(variant: E) -> Self {
        Self::new(variant)
    }
}
impl<E: StoredEnum + fmt::Debug> fmt::Debug for Choice<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Ok(variant) => variant.fmt(f),
            Err(damaged) => write!(f, "{damaged}"),
        }
    }
}

/// What lies in an object is no value of its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged {
    /// Declared name of the type.
    pub name: &'static str,
    /// What lies there.
    pub number: u64,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged: {} is no {}", self.number, self.name)
    }
}

impl core::error::Error for Damaged {}

impl From<Damaged> for Error {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

/// A truth value as it lies in an object: false is 0, true any other byte.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Flag(u8);

// SAFETY: transparent over a byte.
unsafe impl Stored for Flag {
    const NAME: &'static str = "flag";
    const FINGERPRINT: u64 = Fingerprint::new("flag", 1).finish();
    const SHAPE: Shape = Shape::Flag;
}

impl Flag {
    /// False.
    pub const CLEAR: Self = Self(0);
    /// True.
    pub const SET: Self = Self(1);

    /// True if it is set.
    #[must_use]
    pub const fn is_set(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Flag {
    fn from(set: bool) -> Self {
        if set { Self::SET } else { Self::CLEAR }
    }
}
impl From<Flag> for bool {
    fn from(flag: Flag) -> Self {
        flag.is_set()
    }
}
impl PartialEq for Flag {
    fn eq(&self, other: &Self) -> bool {
        self.is_set() == other.is_set()
    }
}
impl Eq for Flag {}
impl fmt::Debug for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.is_set().fmt(f)
    }
}
