//! The macro that `#[derive(Stored)]` replaces.

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
