//! Types that may lie in an object, and how they are declared.
//!
//! [`Stored`] types have a fixed layout, no padding and no invalid bit pattern, so that whatever lies on media
//! is a value of the type: perhaps a wrong one, never undefined behaviour. [`Value`]s are those that may be
//! copied in and out; a type that holds an [`crate::InvPtr`] is not `Copy` and therefore none: it is reached field by
//! field through places. [`record!`](crate::record) declares a struct of fields and proves the rest.

use core::fmt;
use core::marker::PhantomData;

use twizzler_abi::ObjId;

/// A type that may lie in an object.
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)`, has no padding, accepts every bit pattern, has no interior
/// mutability and no drop glue, and holds nothing that means something only in one program: no address, no
/// reference, no handle.
pub unsafe trait Stored: Sized + 'static {
    /// Declared name: what messages call the type, and what a pointer to it contributes to a fingerprint.
    const NAME: &'static str;
    /// Identifies name, version and layout.
    const FINGERPRINT: u64;
}

/// A stored type that may be read and written by value.
pub trait Value: Stored + Copy {}
impl<T: Stored + Copy> Value for T {}

/// A part of a record: which, where, and of what type. Made by [`record!`](crate::record).
pub struct Field<T, F> {
    offset: usize,
    types: PhantomData<fn(T) -> F>,
}

impl<T, F> Clone for Field<T, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, F> Copy for Field<T, F> {}

impl<T, F> fmt::Debug for Field<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field at {:#x}", self.offset)
    }
}

impl<T, F> Field<T, F> {
    /// # Safety
    /// `T` has a field of type `F` at `offset`.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(offset: usize) -> Self {
        Self { offset, types: PhantomData }
    }

    /// Offset of the field in its record, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset as u64
    }
}

/// Hash of layouts at compile time: FNV-1a, mixed at the end, never 0.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Of a declared name and version.
    #[must_use]
    pub const fn new(name: &str, version: u64) -> Self {
        Self(0xcbf2_9ce4_8422_2325).text(name).word(version)
    }

    /// With a text, and its length.
    #[must_use]
    pub const fn text(self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut state = self.word(bytes.len() as u64).0;
        let mut i = 0;
        while i < bytes.len() {
            state = (state ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
            i += 1;
        }
        Self(state)
    }

    /// With a number.
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        let bytes = word.to_le_bytes();
        let mut state = self.0;
        let mut i = 0;
        while i < bytes.len() {
            state = (state ^ bytes[i] as u64).wrapping_mul(0x0100_0000_01b3);
            i += 1;
        }
        Self(state)
    }

    /// The result; 0 would mean untyped.
    #[must_use]
    pub const fn finish(self) -> u64 {
        let mixed = (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = mixed ^ mixed >> 29;
        if mixed == 0 { 1 } else { mixed }
    }
}

macro_rules! plain {
    ($($type:ty),+) => { $(
        // SAFETY: a primitive integer or float, or an array-like struct of them without padding: every bit
        // pattern is a value and it means the same everywhere.
        unsafe impl Stored for $type {
            const NAME: &'static str = stringify!($type);
            const FINGERPRINT: u64 = Fingerprint::new(Self::NAME, size_of::<$type>() as u64).finish();
        }
    )+ };
}

plain!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64, ObjId, twizzler_abi::pointer::FotEntry);

// SAFETY: an array has its elements' properties, and no padding between them.
unsafe impl<T: Stored, const N: usize> Stored for [T; N] {
    const NAME: &'static str = "array";
    const FINGERPRINT: u64 = Fingerprint::new("array", N as u64).word(T::FINGERPRINT).finish();
}

/// Declares a record: a struct that may lie in an object.
///
/// The text is its declared name, which messages use; the number its version, to be raised when the meaning changes.
/// Fields must be [`Stored`] and leave no padding: put an explicit `reserved` field where there would be some. For each
/// field there is a constant of the same name, a [`Field`]. Derive `Clone, Copy` for records without pointers
/// that are to be read and written whole.
///
/// ```
/// use twizzler_object::{InvPtr, record};
///
/// record! {
///     /// A node of a list.
///     pub struct Node: "example.node", 1 {
///         /// The next one.
///         pub next: InvPtr<Node>,
///         /// What it holds.
///         pub value: u64,
///     }
/// }
/// assert_eq!(Node::value.offset(), 8);
/// ```
///
/// Padding is refused:
///
/// ```compile_fail
/// twizzler_object::record! {
///     struct Padded: "example.padded", 1 { a: u8, b: u64, }
/// }
/// ```
///
/// So is what means something only in one program:
///
/// ```compile_fail
/// twizzler_object::record! {
///     struct Local: "example.local", 1 { a: &'static u64, }
/// }
/// ```
#[macro_export]
macro_rules! record {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $text:literal, $version:literal {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)*
        }
    )+) => { $(
        $(#[$meta])*
        #[repr(C)]
        #[allow(dead_code, reason = "fields are reached through their constants")]
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type,)* }

        #[allow(dead_code, non_upper_case_globals, reason = "the constants are named like their fields")]
        impl $name {
            $(
                $(#[$field_meta])*
                $field_vis const $field: $crate::Field<$name, $type> = {
                    // SAFETY: the compiler computed the offset of this very field.
                    unsafe { $crate::Field::new(::core::mem::offset_of!($name, $field)) }
                };
            )*
        }

        const _: () = {
            assert!(::core::mem::size_of::<$name>() == 0 $(+ ::core::mem::size_of::<$type>())*, "a record must have no padding");
            assert!(!::core::mem::needs_drop::<$name>(), "a record can't have drop glue");
        };

        // SAFETY: repr(C); the assertions above show that there is no padding and no drop glue; each field is `Stored`, which
        // the fingerprint asks the compiler for.
        unsafe impl $crate::Stored for $name {
            const NAME: &'static str = $text;
            const FINGERPRINT: u64 = $crate::Fingerprint::new($text, $version)
                .word(::core::mem::size_of::<$name>() as u64)
                $(
                    .text(stringify!($field))
                    .word(::core::mem::offset_of!($name, $field) as u64)
                    .word(<$type as $crate::Stored>::FINGERPRINT)
                )*
                .finish();
        }
    )+ };
}

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        struct One: "test.record", 1 { a: u64, b: [u32; 2], }
        struct Renamed: "test.record", 1 { a: u64, c: [u32; 2], }
        struct Newer: "test.record", 2 { a: u64, b: [u32; 2], }
        struct Retyped: "test.record", 1 { a: u64, b: [u16; 4], }
        struct Reordered: "test.record", 1 { b: [u32; 2], a: u64, }
    }

    #[test]
    fn each_part_of_a_declaration_changes_the_fingerprint() {
        let all = [
            One::FINGERPRINT,
            Renamed::FINGERPRINT,
            Newer::FINGERPRINT,
            Retyped::FINGERPRINT,
            Reordered::FINGERPRINT,
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b));
        }
    }

    #[test]
    fn fingerprints_do_not_drift() {
        assert_eq!(
            One::FINGERPRINT,
            Fingerprint::new("test.record", 1)
                .word(16)
                .text("a")
                .word(0)
                .word(u64::FINGERPRINT)
                .text("b")
                .word(8)
                .word(<[u32; 2]>::FINGERPRINT)
                .finish()
        );
    }
}
