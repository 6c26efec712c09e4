//! What a type declares by its attributes: name, version, and the crate that the generated code speaks to.

use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, DeriveInput, Error, LitInt, LitStr, Path, Result, Token};

/// Bytes of a name; `twizzler_abi::object::TYPE_NAME_BYTES`.
const NAME_BYTES_MAX: usize = 56;

/// `#[stored(name = "..", version = ..)]`.
pub(crate) struct Declaration {
    pub(crate) name: LitStr,
    pub(crate) version: LitInt,
    pub(crate) krate: Path,
}

impl Declaration {
    /// Reads the attributes of `input`. `krate` is the path to use where `crate = path` says nothing else.
    pub(crate) fn read(input: &DeriveInput, krate: &Path) -> Result<Self> {
        let (mut name, mut version, mut krate) = (None, None, krate.clone());
        for attribute in stored(&input.attrs) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    name = Some(meta.value()?.parse::<LitStr>()?);
                } else if meta.path.is_ident("version") {
                    version = Some(meta.value()?.parse::<LitInt>()?);
                } else if meta.path.is_ident("crate") {
                    krate = meta.value()?.call(Path::parse_mod_style)?;
                } else {
                    return Err(meta.error("`stored` knows `name`, `version` and `crate`"));
                }
                Ok(())
            })?;
        }
        let (Some(name), Some(version)) = (name, version) else {
            let example = input.ident.to_string().to_lowercase();
            return Err(Error::new(
                input.ident.span(),
                format!(
                    "a stored type declares a name and a version: #[stored(name = \"yourproject.{example}\", version = 1)]. \
                     They go into the fingerprint, by which objects know their type after years; raise the version \
                     when the meaning changes"
                ),
            ));
        };
        let text = name.value();
        let sound =
            !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        if !sound {
            return Err(Error::new(
                name.span(),
                format!("a declared name has 1 to {NAME_BYTES_MAX} ASCII characters and no spaces"),
            ));
        }
        if version.base10_parse::<u32>()? == 0 {
            return Err(Error::new(version.span(), "versions count from 1"));
        }
        Ok(Self { name, version, krate })
    }
}

fn stored(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("stored"))
}

/// No field has a `stored` attribute.
pub(crate) fn refuse_on_field(attributes: &[Attribute]) -> Result<()> {
    match stored(attributes).next() {
        Some(attribute) => {
            Err(Error::new(attribute.span(), "`stored` stands before the struct, not before a field"))
        }
        None => Ok(()),
    }
}

/// The words of all `repr` attributes, without arguments: `C`, `align`, `u8`. To the compiler `r#packed` is `packed` too.
pub(crate) fn reprs(attributes: &[Attribute]) -> Result<Vec<syn::Ident>> {
    let mut words = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            words.extend(meta.path.get_ident().map(IdentExt::unraw));
            if meta.input.peek(syn::token::Paren) {
                let arguments;
                syn::parenthesized!(arguments in meta.input);
                arguments.parse::<proc_macro2::TokenStream>()?;
            }
            if !meta.input.is_empty() && !meta.input.peek(Token![,]) {
                return Err(meta.error("unexpected"));
            }
            Ok(())
        })?;
    }
    Ok(words)
}
