//! `#[derive(Stored)]`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, GenericParam, Path, Result, Type, Visibility};

use crate::declaration::{Declaration, refuse_on_field, reprs};
use crate::looks;

/// A field of a record.
struct Part<'a> {
    /// How the language names it.
    member: syn::Member,
    /// How its constant names it.
    name: Ident,
    /// How the fingerprint names it: `type` for `r#type`, which another edition may write otherwise.
    text: String,
    visibility: &'a Visibility,
    docs: Vec<&'a Attribute>,
    ty: &'a Type,
    /// The trait that its type is asked for.
    question: Ident,
}

/// Implements `Stored`, or says why not. In that case a hollow implementation keeps the compiler from complaining about its lack
/// wherever the type is used.
pub(crate) fn derive(input: &DeriveInput, krate: &Path) -> TokenStream {
    expand(input, krate).unwrap_or_else(|error| {
        let refusal = error.to_compile_error();
        let name = &input.ident;
        let (generics, arguments, bounds) = input.generics.split_for_impl();
        let hollow = input.generics.lifetimes().next().is_none().then(|| {
            quote! {
                // SAFETY: no program gets it: it stands beside the refusal, so that the compiler complains of nothing else.
                unsafe impl #generics #krate::__stored::Stored for #name #arguments #bounds {
                    const NAME: &'static str = "";
                    const FINGERPRINT: u64 = 0;
                    // Beyond the end, should the refusal be no error where the struct stands.
                    const LAYOUT: () = [()][1];
                }
            }
        });
        quote!(#refusal #hollow)
    })
}

fn expand(input: &DeriveInput, krate: &Path) -> Result<TokenStream> {
    let fields = fields_of(input)?;
    check_layout_is_fixed(input)?;
    check_generics(input)?;
    let declaration = Declaration::read(input, krate)?;
    let krate = &declaration.krate;
    let parts = parts(input, fields)?;

    let mut bounded = input.generics.clone();
    for parameter in bounded.type_params_mut() {
        parameter.bounds.push(syn::parse_quote!(#krate::__stored::Stored));
    }
    let (generics, arguments, bounds) = bounded.split_for_impl();
    let name = &input.ident;
    let constants = constants(krate, &quote!(#name #arguments), &parts);
    let layout = layout(krate, name, &parts);
    let fingerprint = fingerprint(&declaration, &input.generics, &parts);
    let type_arguments = type_arguments(krate, &input.generics);
    let shape = shape(&declaration, &parts);
    let declared = &declaration.name;
    // The check of a generic type waits until its parameters are known: every access asks for it.
    let checked_now = input
        .generics
        .params
        .is_empty()
        .then(|| quote!(const _: () = <#name as #krate::__stored::Stored>::LAYOUT;));

    Ok(quote! {
        #[allow(dead_code, missing_docs, non_upper_case_globals, reason = "the constants are named like their fields")]
        #[automatically_derived]
        impl #generics #name #arguments #bounds {
            #constants
        }

        // SAFETY: repr(C) or transparent; LAYOUT shows that there is neither padding nor drop glue; each field is stored, which
        // the fingerprint asks the compiler for.
        #[automatically_derived]
        unsafe impl #generics #krate::__stored::Stored for #name #arguments #bounds {
            const NAME: &'static str = #declared;
            const FINGERPRINT: u64 = #fingerprint;
            #type_arguments
            #[allow(unused_imports, reason = "one field has no other before it")]
            const LAYOUT: () = { #layout };
            const SHAPE: #krate::__stored::Shape = #shape;
        }

        #checked_now
    })
}

fn fields_of(input: &DeriveInput) -> Result<&Fields> {
    let refuse = |span: Span, text: &str| Err(Error::new(span, text));
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) if !fields.named.is_empty() => Ok(&data.fields),
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok(&data.fields),
            Fields::Unnamed(fields) if !fields.unnamed.is_empty() => refuse(
                fields.span(),
                "name the fields: a stored field is known by its name, which is part of the fingerprint. (A wrapper \
                 around one field may be a tuple struct)",
            ),
            _ => refuse(
                input.ident.span(),
                "a type without fields has nothing to store, and nothing can point to it",
            ),
        },
        Data::Enum(data) if data.variants.iter().all(|variant| variant.fields.is_empty()) => refuse(
            data.enum_token.span,
            "an enum can't lie in an object as it is: a number that is no variant would be undefined behaviour. Derive \
             `StoredEnum` in place of `Stored`, and make the field a `Choice` of it, which reads as \
             `Result<_, Damaged>`",
        ),
        Data::Enum(data) => refuse(
            data.enum_token.span,
            "an enum with fields can't lie in an object: a number that is no variant would be undefined behaviour. Use a struct: \
             a `Choice` of an enum without fields that derives `StoredEnum`, beside the fields of all variants or an \
             `InvPtr` to them",
        ),
        Data::Union(data) => refuse(
            data.union_token.span,
            "a union can't lie in an object: nothing says which of its fields is there, and the others may have padding. Use \
             `[u8; N]`, or one field for each",
        ),
    }
}

fn check_layout_is_fixed(input: &DeriveInput) -> Result<()> {
    let reprs = reprs(&input.attrs)?;
    if let Some(packed) = reprs.iter().find(|word| *word == "packed") {
        return Err(Error::new(
            packed.span(),
            "a stored type is not packed: its fields would not be aligned, and reads could tear. Order the fields by size, \
             and fill what is left with a `reserved` field",
        ));
    }
    if reprs.iter().any(|word| word == "C" || word == "transparent") {
        return Ok(());
    }
    Err(Error::new(
        input.ident.span(),
        "a stored type needs #[repr(C)]: without it the compiler orders the fields as it likes, and the next compiler may \
         like another order",
    ))
}

fn check_generics(input: &DeriveInput) -> Result<()> {
    if let Some(lifetime) = input.generics.lifetimes().next() {
        return Err(Error::new(
            lifetime.span(),
            "a stored type has no lifetimes: what it holds outlives every borrow and the program itself. Use `InvPtr<T>` in place of \
             references and `Ptr`s",
        ));
    }
    Ok(())
}

fn parts<'a>(input: &'a DeriveInput, fields: &'a Fields) -> Result<Vec<Part<'a>>> {
    let mut errors: Option<Error> = None;
    let mut parts = Vec::new();
    for (member, field) in fields.members().zip(fields) {
        let question = refuse_on_field(&field.attrs).and_then(|()| looks::question(&field.ty));
        match question {
            Ok(question) => parts.push(Part {
                member,
                text: field.ident.as_ref().map_or("inner".to_owned(), |name| name.unraw().to_string()),
                name: field.ident.clone().unwrap_or_else(|| Ident::new("inner", field.span())),
                visibility: if field.ident.is_some() { &field.vis } else { &input.vis },
                docs: field.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).collect(),
                ty: &field.ty,
                question: format_ident!("{question}"),
            }),
            Err(error) => match &mut errors {
                Some(errors) => errors.combine(error),
                None => errors = Some(error),
            },
        }
    }
    errors.map_or(Ok(parts), Err)
}

/// For each field, a constant that says where it is.
fn constants(krate: &Path, record: &TokenStream, parts: &[Part<'_>]) -> TokenStream {
    let constants = parts.iter().map(|Part { member, name, visibility, docs, ty, .. }| {
        quote! {
            #(#docs)*
            #visibility const #name: #krate::__stored::Field<#record, #ty> = {
                // SAFETY: the compiler computed the offset of this very field.
                unsafe { #krate::__stored::Field::new(::core::mem::offset_of!(#record, #member)) }
            };
        }
    });
    quote!(#(#constants)*)
}

/// Checks that each field begins where the one before it ends. What fails is shown at the field.
fn layout(krate: &Path, record: &Ident, parts: &[Part<'_>]) -> TokenStream {
    let at = |name: &Ident| Span::call_site().located_at(name.span());
    let ends = parts.iter().map(|Part { member, ty, .. }| {
        quote!(::core::mem::offset_of!(Self, #member) + ::core::mem::size_of::<#ty>())
    });
    let gaps = parts.iter().skip(1).zip(ends.clone()).map(|(Part { member, name, text, .. }, end)| {
        quote_spanned!(at(name) => no_gap_before(#text, #end, ::core::mem::offset_of!(Self, #member));)
    });
    let last = ends.clone().next_back();
    let text = record.to_string();
    let whole = quote_spanned! { at(record) =>
        no_gap_at_end_of(#text, #last, ::core::mem::size_of::<Self>());
        no_drop_glue(#text, ::core::mem::needs_drop::<Self>());
    };
    let proof = proof(krate, parts);
    quote! {
        {
            use #krate::__stored::{no_drop_glue, no_gap_at_end_of, no_gap_before};
            // Where a field is not stored, that is all that has to be said.
            let _ = <Self as #krate::__stored::Stored>::FINGERPRINT;
            #(#gaps)*
            #whole
        }
        #proof
    }
}

/// What the checks that teach have shown, once more, by the language and the trait that is implemented alone: whatever `core` and the
/// crate's path lead to where the struct stands, and whatever an attribute behind the derive has made of it.
fn proof(krate: &Path, parts: &[Part<'_>]) -> TokenStream {
    let fields = parts.iter().map(|Part { member, ty, .. }| {
        quote! {
            // Of what is packed there is no reference.
            let field = (&it.#member,);
            ask.field::<#ty>(field);
        }
    });
    let bytes = parts.iter().map(|Part { ty, question, .. }| {
        quote!(ask.bytes::<#ty>(&<#ty as #krate::__stored::teach::#question>::YES))
    });
    quote! {
        let ask = <Self as #krate::__stored::Stored>::ASK;
        let _ = |it: &Self| { #(#fields)* };
        ask.covered::<Self>(0 #(+ #bytes)*);
    }
}

fn fingerprint(declaration: &Declaration, generics: &syn::Generics, parts: &[Part<'_>]) -> TokenStream {
    let Declaration { name, version, krate } = declaration;
    let fields = parts.iter().map(|Part { member, text, ty, question, .. }| {
        quote! {
            .text(#text)
            .word(::core::mem::offset_of!(Self, #member) as u64)
            .word(<#ty as #krate::__stored::teach::#question>::FINGERPRINT)
        }
    });
    let arguments =
        (!generics.params.is_empty()).then(|| quote!(.word(<Self as #krate::__stored::Stored>::ARGUMENTS)));
    quote! {
        #krate::__stored::Fingerprint::new(#name, #version)
            .word(::core::mem::size_of::<Self>() as u64)
            #(#fields)*
            #arguments
            .finish()
    }
}

/// What it is made of, for those who read objects without the program.
fn shape(declaration: &Declaration, parts: &[Part<'_>]) -> TokenStream {
    let Declaration { version, krate, .. } = declaration;
    let fields = parts.iter().map(|Part { member, text, ty, question, .. }| {
        quote! {
            #krate::__stored::FieldShape {
                name: #text,
                offset: ::core::mem::offset_of!(Self, #member) as u64,
                of: <#ty as #krate::__stored::teach::#question>::TYPE,
            }
        }
    });
    quote!(#krate::__stored::Shape::Record { version: #version, fields: &[#(#fields),*] })
}

/// What the names of a generic type's arguments contribute to pointers to it.
fn type_arguments(krate: &Path, generics: &syn::Generics) -> Option<TokenStream> {
    let words = generics.params.iter().map(|parameter| match parameter {
        GenericParam::Type(parameter) => {
            let name = &parameter.ident;
            quote!(.argument::<#name>())
        }
        GenericParam::Const(parameter) => {
            let name = &parameter.ident;
            quote!(.word(#name as u64))
        }
        GenericParam::Lifetime(_) => quote!(),
    });
    (!generics.params.is_empty()).then(|| {
        quote!(const ARGUMENTS: u64 = #krate::__stored::Fingerprint::new("arguments", 1)#(#words)*.finish();)
    })
}
