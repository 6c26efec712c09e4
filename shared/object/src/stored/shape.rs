//! What a stored type is made of, as its program knows it. [`crate::types`] turns this into a description that lies in the store.

use super::{Fingerprint, Stored};

/// A type that a program has.
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    /// [`Stored::NAME`].
    pub name: &'static str,
    /// [`Stored::FINGERPRINT`].
    pub fingerprint: u64,
    /// [`Stored::ARGUMENTS`].
    pub arguments: u64,
    /// Its size in bytes.
    pub size: u64,
    /// What it is made of.
    pub shape: Shape,
}

/// A type, told when asked: so types may lead to themselves.
pub type TypeOf = fn() -> TypeInfo;

/// Tells of a type.
#[must_use]
pub fn type_of<T: Stored>() -> TypeInfo {
    TypeInfo {
        name: T::NAME,
        fingerprint: T::FINGERPRINT,
        arguments: T::ARGUMENTS,
        size: size_of::<T>() as u64,
        shape: T::SHAPE,
    }
}

/// What a stored type is made of.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Bytes that mean something to the program alone.
    Opaque,
    /// A number, or an object's ID.
    Plain(Plain),
    /// [`crate::Flag`].
    Flag,
    /// An array.
    Array {
        /// Its length.
        len: u64,
        /// The type of its elements.
        element: TypeOf,
    },
    /// [`crate::InvPtr`].
    Pointer(TypeOf),
    /// [`crate::InvSpan`].
    Span(TypeOf),
    /// A struct.
    Record {
        /// Its declared version.
        version: u64,
        /// Its fields.
        fields: &'static [FieldShape],
    },
    /// A collection's root.
    Collection {
        /// Which one.
        form: Collected,
        /// The type of its elements, or those of keys and values; none where they are bytes.
        parts: &'static [TypeOf],
        /// Where things are in its memory: what the compiler made of the types.
        layout: &'static [u64],
    },
    /// [`crate::Choice`] of an enum.
    Choice {
        /// Its declared version.
        version: u64,
        /// Names and numbers.
        variants: &'static [(&'static str, u64)],
    },
}

/// Collections that are read entry by entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collected {
    /// [`crate::collections::Vector`].
    Vector,
    /// [`crate::collections::HashMap`].
    HashMap,
    /// [`crate::collections::OrderedMap`].
    OrderedMap,
}

impl Collected {
    /// All of them; the place of each is its number in descriptions.
    pub const ALL: [Self; 3] = [Self::Vector, Self::HashMap, Self::OrderedMap];

    /// What the fingerprints of such collections begin with; those of their parts follow. A new layout is a new version.
    pub(crate) const fn fingerprint(self, of_bytes: bool) -> Fingerprint {
        match (self, of_bytes) {
            (Self::Vector, _) => Fingerprint::new("vector", 1),
            (Self::HashMap, false) => Fingerprint::new("hash-map", 1),
            (Self::HashMap, true) => Fingerprint::new("hash-map-of-bytes", 1),
            (Self::OrderedMap, false) => Fingerprint::new("ordered-map", 4),
            (Self::OrderedMap, true) => Fingerprint::new("ordered-map-of-bytes", 2),
        }
    }
}

/// A field of a struct.
#[derive(Clone, Copy, Debug)]
pub struct FieldShape {
    /// Its name.
    pub name: &'static str,
    /// Where in the struct it lies.
    pub offset: u64,
    /// Its type.
    pub of: TypeOf,
}

/// A type without parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "named like the types")]
pub enum Plain {
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
    ObjId,
}

impl Plain {
    /// All of them; the place of each is its number in descriptions.
    pub const ALL: [Self; 13] = [
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::U128,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::I128,
        Self::F32,
        Self::F64,
        Self::ObjId,
    ];

    /// The type's name, which is the declared one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::U128 => "u128",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::I128 => "i128",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::ObjId => "ObjId",
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::U128 | Self::I128 | Self::ObjId => 16,
        }
    }
}
