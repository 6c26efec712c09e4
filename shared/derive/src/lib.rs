//! Derive macros of the programming model.
//!
//! `#[derive(Stored)]` proves that a struct may lie in an object, and gives each field a constant that says where it is;
//! `#[derive(StoredEnum)]` lets an enum without fields lie there as a checked number. What they prove and how is
//! in `twizzler_object`'s module `stored`, whose traits they implement; here is the syntax: what was declared
//! ([`declaration`]), what can be refused by its looks ([`looks`]), and what is generated ([`record`],
//! [`choice`]).
//!
//! A refusal must teach: it names what is wrong, where, why that can't lie in an object, and what to write instead. Where
//! the syntax can't know (aliases, generic parameters), traits with messages of their own do.
#![forbid(unsafe_code)]

mod choice;
mod declaration;
mod looks;
mod record;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input, parse_quote};

/// Lets a struct lie in an object.
///
/// `#[stored(name = "example.page", version = 1)]` declares its name, which messages use, and its version, to be raised
/// when its meaning changes. The struct is `#[repr(C)]`. For each field there is a constant of the same name, a
/// `Field`; that of a new-type's only field is called `inner`.
#[proc_macro_derive(Stored, attributes(stored))]
pub fn stored(input: TokenStream) -> TokenStream {
    record::derive(&parse_macro_input!(input as DeriveInput), &parse_quote!(::twizzler_object)).into()
}

/// [`Stored`](macro@Stored) for who depends on the crate `twizzler` alone; exported there under that name.
#[proc_macro_derive(StoredOfTwizzler, attributes(stored))]
pub fn stored_of_twizzler(input: TokenStream) -> TokenStream {
    record::derive(&parse_macro_input!(input as DeriveInput), &parse_quote!(::twizzler)).into()
}

/// Lets an enum without fields lie in an object, as a `Choice` of it.
///
/// `#[stored(name = "example.colour", version = 1)]` declares name and version; `#[repr(u8)]`, `u16` or `u32` says
/// how many bytes it takes.
#[proc_macro_derive(StoredEnum, attributes(stored))]
pub fn stored_enum(input: TokenStream) -> TokenStream {
    choice::derive(&parse_macro_input!(input as DeriveInput), &parse_quote!(::twizzler_object)).into()
}

/// [`StoredEnum`](macro@StoredEnum) for who depends on the crate `twizzler` alone; exported there under that name.
#[proc_macro_derive(StoredEnumOfTwizzler, attributes(stored))]
pub fn stored_enum_of_twizzler(input: TokenStream) -> TokenStream {
    choice::derive(&parse_macro_input!(input as DeriveInput), &parse_quote!(::twizzler)).into()
}
