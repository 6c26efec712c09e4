//! Types that may lie in an object, and how they are declared.
//!
//! [`Stored`] types have a fixed layout, no padding and no invalid bit pattern, so that whatever lies on media
//! is a value of the type: perhaps a wrong one, never undefined behaviour. [`Value`]s are those that may be
//! copied in and out; a type that holds an [`crate::InvPtr`] is not `Copy` and therefore none: it is reached field by
//! field through places. `#[derive(Stored)]` proves all this of a struct; what is not a struct of numbers and pointers
//! has its stored form: [`Choice`] of an enum, [`Flag`].

mod choice;
mod field;
mod fingerprint;
mod layout;
mod shape;
pub mod teach;
#[cfg(test)]
mod tests;

use twizzler_abi::ObjId;

pub use twizzler_derive::{Stored, StoredEnum};

pub use choice::{Choice, Damaged, Flag, StoredEnum};
pub use field::Field;
pub use fingerprint::Fingerprint;
pub use layout::{no_drop_glue, no_gap_at_end_of, no_gap_before};
pub use shape::{Collected, FieldShape, Plain, Shape, TypeInfo, TypeOf, type_of};

/// A type that may lie in an object. Derive it:
///
/// ```
/// use twizzler_object::{InvPtr, Stored};
///
/// /// A node of a list.
/// #[derive(Stored)]
/// #[stored(name = "example.node", version = 1)]
/// #[repr(C)]
/// pub struct Node {
///     /// The next one.
///     pub next: InvPtr<Node>,
///     /// What it holds.
///     pub value: u64,
/// }
/// assert_eq!(Node::value.offset(), 8);
/// ```
///
/// The name is what messages call the type; the version is raised when its meaning changes. Each field must be stored itself, and
/// leave no padding. For each there is a constant of the same name, a [`Field`]. Derive `Clone, Copy` too for types without
/// pointers that are to be read and written whole. What is refused, and why: `docs/types.md`.
///
/// Types may have parameters, which must be stored:
///
/// ```
/// # use twizzler_object::{InvPtr, Stored};
/// #[derive(Stored)]
/// #[stored(name = "example.list-node", version = 1)]
/// #[repr(C)]
/// struct Node<T> {
///     next: InvPtr<Node<T>>,
///     value: T,
/// }
/// assert_ne!(Node::<u64>::FINGERPRINT, Node::<i64>::FINGERPRINT);
/// ```
///
/// # Safety
/// The type is `repr(C)` or `repr(transparent)`, accepts every bit pattern, has no interior mutability and no drop glue, and holds
/// nothing that means something only in one program: no address, no reference, no handle. It has no padding, or else
/// [`Stored::LAYOUT`] can't be evaluated.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't lie in an object",
    label = "not a stored type",
    note = "stored types are: `u8` to `u128`, `i8` to `i128`, `f32`, `f64`, `ObjId`, arrays of stored types, `InvPtr<T>`, `InvSpan<T>`, \
            `Choice<E>`, `Flag`, and structs with #[derive(Stored)]"
)]
pub unsafe trait Stored: Sized + 'static {
    /// Declared name: what messages call the type, and what a pointer to it contributes to a fingerprint.
    const NAME: &'static str;
    /// Identifies name, version and layout.
    const FINGERPRINT: u64;
    /// Identifies the names of a generic type's arguments; 0: it has none.
    const ARGUMENTS: u64 = 0;
    /// Fails to evaluate, and so to compile, for a type with padding or drop glue. Whoever sees a value as bytes, or bytes as a value, evaluates it.
    const LAYOUT: () = ();
    /// What it is made of, for those who read objects without the program.
    const SHAPE: Shape = Shape::Opaque;
    /// Proves a derived type.
    #[doc(hidden)]
    const ASK: teach::Ask = teach::Ask::NEW;
}

/// A stored type that may be read and written by value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be read or written by value",
    label = "this is not a stored type that is `Copy`",
    note = "a type that holds an `InvPtr` is reached field by field, `place.at(Type::field)`, and its pointers by `follow` and `link`: \
            their bits mean something only where they lie",
    note = "a stored type without pointers becomes a value by #[derive(Clone, Copy)]"
)]
pub trait Value: Stored + Copy {}
#[diagnostic::do_not_recommend]
impl<T: Stored + Copy> Value for T {}

macro_rules! plain {
    ($($type:ty: $shape:expr),+ $(,)?) => { $(
        // SAFETY: a primitive integer or float, or an array-like struct of them without padding: every bit
        // pattern is a value and it means the same everywhere.
        unsafe impl Stored for $type {
            const NAME: &'static str = stringify!($type);
            const FINGERPRINT: u64 = Fingerprint::new(Self::NAME, size_of::<$type>() as u64).finish();
            const SHAPE: Shape = $shape;
        }
    )+ };
}

plain! {
    u8: Shape::Plain(Plain::U8),
    u16: Shape::Plain(Plain::U16),
    u32: Shape::Plain(Plain::U32),
    u64: Shape::Plain(Plain::U64),
    u128: Shape::Plain(Plain::U128),
    i8: Shape::Plain(Plain::I8),
    i16: Shape::Plain(Plain::I16),
    i32: Shape::Plain(Plain::I32),
    i64: Shape::Plain(Plain::I64),
    i128: Shape::Plain(Plain::I128),
    f32: Shape::Plain(Plain::F32),
    f64: Shape::Plain(Plain::F64),
    ObjId: Shape::Plain(Plain::ObjId),
    twizzler_abi::pointer::FotEntry: Shape::Opaque,
}

// SAFETY: an array has its elements' properties, and no padding between them.
unsafe impl<T: Stored, const N: usize> Stored for [T; N] {
    const NAME: &'static str = "array";
    const FINGERPRINT: u64 = Fingerprint::new("array", N as u64).word(T::FINGERPRINT).finish();
    const ARGUMENTS: u64 = Fingerprint::new("arguments", N as u64).argument::<T>().finish();
    const LAYOUT: () = T::LAYOUT;
    const SHAPE: Shape = Shape::Array { len: N as u64, element: type_of::<T> };
}
