//! `#[derive(StoredEnum)]`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Path, Result};

use crate::declaration::{Declaration, reprs};

/// Implements `StoredEnum`, or says why not.
pub(crate) fn derive(input: &DeriveInput, krate: &Path) -> TokenStream {
    expand(input, krate).unwrap_or_else(|error| error.to_compile_error())
}

fn expand(input: &DeriveInput, krate: &Path) -> Result<TokenStream> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "`StoredEnum` is for enums; a struct derives `Stored`"));
    };
    if let Some(variant) = data.variants.iter().find(|variant| !variant.fields.is_empty()) {
        return Err(Error::new(
            variant.span(),
            "a stored enum has no fields. Put them beside the `Choice` in the struct that holds it, or behind an `InvPtr`",
        ));
    }
    if data.variants.is_empty() {
        return Err(Error::new(input.ident.span(), "an enum without variants has nothing to store"));
    }
    if let Some(parameter) = input.generics.params.first() {
        return Err(Error::new(parameter.span(), "a stored enum has no parameters"));
    }
    let number = number(input)?;
    let Declaration { name: declared, version, krate } = &Declaration::read(input, krate)?;
    let name = &input.ident;
    let variants: Vec<&Ident> = data.variants.iter().map(|variant| &variant.ident).collect();
    let texts: Vec<String> = variants.iter().map(|variant| variant.unraw().to_string()).collect();
    Ok(quote! {
        #[automatically_derived]
        impl #krate::__stored::StoredEnum for #name {
            type Number = #number;
            const NAME: &'static str = #declared;
            const FINGERPRINT: u64 = #krate::__stored::Fingerprint::new(#declared, #version)
                .word(::core::mem::size_of::<#number>() as u64)
                #(.text(#texts).word(#name::#variants as #number as u64))*
                .finish();
            const VERSION: u64 = #version;
            const VARIANTS: &'static [(&'static str, u64)] =
                &[#((#texts, #name::#variants as #number as u64)),*];

            fn number(self) -> #number {
                self as #number
            }

            fn from_number(number: #number) -> ::core::option::Option<Self> {
                #(if number == #name::#variants as #number {
                    return ::core::option::Option::Some(#name::#variants);
                })*
                ::core::option::Option::None
            }
        }
    })
}

/// The integer that the enum is declared to be.
fn number(input: &DeriveInput) -> Result<Ident> {
    let reprs = reprs(&input.attrs)?;
    let wanted = reprs.iter().find(|word| ["u8", "u16", "u32"].iter().any(|known| word == known));
    wanted.map(|word| Ident::new(&word.to_string(), Span::call_site())).ok_or_else(|| {
        Error::new(
            input.ident.span(),
            "a stored enum says how many bytes it takes: #[repr(u8)], #[repr(u16)] or #[repr(u32)]",
        )
    })
}
