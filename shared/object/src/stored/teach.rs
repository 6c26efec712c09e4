//! What a field's type is asked for, so that the answer teaches.
//!
//! `#[derive(Stored)]` sees names, and a name proves nothing: `Box` may be anybody's type. So the name chooses a trait of this module, all of
//! which hold for exactly the stored types, and each of which explains in its own words why a type is none.

use core::marker::PhantomData;

use super::{Stored, TypeOf, type_of};

macro_rules! questions {
    ($($(#[$meta:meta])+ $name:ident)+) => { $(
        $(#[$meta])+
        pub trait $name: Sized {
            /// The stored type's.
            const FINGERPRINT: u64;
            /// Tells of it.
            const TYPE: TypeOf;
            /// That it is one.
            const YES: Yes<Self>;
        }

        #[diagnostic::do_not_recommend]
        impl<T: Stored> $name for T {
            const FINGERPRINT: u64 = {
                let () = T::LAYOUT;
                T::FINGERPRINT
            };
            const TYPE: TypeOf = type_of::<T>;
            const YES: Yes<T> = {
                let () = T::LAYOUT;
                Yes(PhantomData)
            };
        }
    )+ };
}

/// The answer to a question: there is one for each stored type, and none for others.
#[derive(Debug)]
pub struct Yes<T>(PhantomData<fn() -> T>);

/// Asks for what a derived type's safety needs. [`Stored::ASK`] is one, so that what is asked is asked by this crate, wherever the
/// paths in derived code lead.
#[derive(Clone, Copy, Debug)]
pub struct Ask(());

impl Ask {
    pub(super) const NEW: Self = Self(());

    /// The size of a stored type.
    #[must_use]
    pub const fn bytes<T>(self, _: &Yes<T>) -> usize {
        size_of::<T>()
    }

    /// A field is of that type. Nothing in a tuple is coerced.
    pub const fn field<T>(self, _: (&T,)) {}

    /// All bytes of a `T` are in its fields, which have so many together.
    pub const fn covered<T>(self, bytes: usize) {
        assert!(bytes == size_of::<T>(), "there are bytes that nobody would initialise");
    }
}

questions! {
    /// Asked of what is none of the suspects below.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object",
        label = "not a stored type",
        note = "stored types are: `u8` to `u128`, `i8` to `i128`, `f32`, `f64`, `ObjId`, arrays of stored types, `InvPtr<T>`, `InvSpan<T>`, `Choice<E>`, `Flag`, and structs with #[derive(Stored)]"
    )]
    Part
    /// Asked of `Box`, `Rc` and their like.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: it holds an address in one run of one program",
        label = "an address",
        note = "use `InvPtr<T>`, which holds an object and an offset, and make its target with `tx.alloc`"
    )]
    OwningPointer
    /// Asked of `Vec`, `String`, `HashMap` and their like.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: its content lies on this program's heap",
        label = "lies on the heap",
        note = "use `InvBytes` for text and bytes, `InvSpan<T>` for values in a row, or a collection of `twizzler_object::collections`"
    )]
    HeapCollection
    /// Asked of `usize` and `isize`.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: its size depends on the machine",
        label = "of no fixed size",
        note = "use `u64` or `i64`"
    )]
    MachineWord
    /// Asked of `bool`.
    #[diagnostic::on_unimplemented(
        message = "a `bool` can't lie in an object: a byte other than 0 and 1 would be undefined behaviour",
        label = "not every byte is a `bool`",
        note = "use `Flag`, which takes any byte"
    )]
    Truth
    /// Asked of `char`.
    #[diagnostic::on_unimplemented(
        message = "a `char` can't lie in an object: not every number is one, and another would be undefined behaviour",
        label = "not every number is a `char`",
        note = "use `u32`, and read it with `char::from_u32`; or `InvBytes` for text"
    )]
    Character
    /// Asked of `Option`, `Result`, `NonZeroU64` and their like.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: some of its bit patterns are no value, and would be undefined behaviour",
        label = "not every bit pattern is a value",
        note = "use the plain number with a value that means none, such as 0; or a `Flag` beside the value",
        note = "an `InvPtr` can be null by itself"
    )]
    Niche
    /// Asked of cells and atomics.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: it would change behind the back of transactions",
        label = "changes in place",
        note = "use the plain number; a transaction's `set` changes it, and its locks keep others out"
    )]
    InteriorMutability
    /// Asked of `Mutex` and its like.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: who holds it may die, and the lock would stay for ever",
        label = "a lock of one program",
        note = "store the value itself; transactions lock objects as they touch them, and locks end with the program"
    )]
    Lock
    /// Asked of files, sockets, threads.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: it is a handle, which means something in one run of one program",
        label = "a handle",
        note = "store the file's name, or the ID of an object"
    )]
    Handle
    /// Asked of `Instant`, `SystemTime`, `Duration`.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: its layout is the standard library's choice, and may change",
        label = "of unknown layout",
        note = "use `u64`, in nanoseconds (since 1970 for a time of day)"
    )]
    Time
    /// Asked of `Ptr`, `Span`, `Tx` and their like.
    #[diagnostic::on_unimplemented(
        message = "`{Self}` can't lie in an object: it is good in this program, while its guard lives",
        label = "resolved",
        note = "store an `InvPtr<T>` or `InvSpan<T>`, and make it point there with `tx.link` or `tx.link_span`; or the object's `ObjId`"
    )]
    Resolved
}
