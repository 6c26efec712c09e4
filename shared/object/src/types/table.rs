//! The descriptions themselves, made from a program's types or read from a store.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use twizzler_abi::Error;

use crate::stored::{Collected, Fingerprint, Plain, Shape, Stored, TypeInfo, type_of};

/// Types that a table can hold.
pub(super) const TYPES_MAX: usize = 1024;

/// A type, and all those that it is made of or points to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeTable {
    pub(super) root: Kind,
    pub(super) types: BTreeMap<u64, TypeDescription>,
}

/// What a place holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A number, or an object's ID.
    Plain(Plain),
    /// A truth value.
    Flag,
    /// So many of a kind.
    Array(u64, Box<Kind>),
    /// A pointer to one.
    Pointer(Box<Kind>),
    /// A pointer to several.
    Span(Box<Kind>),
    /// A type of the table, by its fingerprint.
    Named(u64),
}

/// A type with a name of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeDescription {
    /// Its declared name.
    pub name: String,
    /// Its declared version; 0 for an opaque one.
    pub version: u64,
    /// Its fingerprint.
    pub fingerprint: u64,
    /// Identifies its arguments' names; 0: it has none.
    pub arguments: u64,
    /// Its size in bytes.
    pub size: u64,
    /// What it is made of.
    pub form: Form,
}

/// What a type is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// Bytes that mean something to the program alone.
    Opaque,
    /// Fields, in their order.
    Record(Vec<FieldDescription>),
    /// Names and numbers, of which one is there.
    Choice(Vec<(String, u64)>),
    /// A collection's root.
    Collection(CollectionDescription),
}

/// A collection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CollectionDescription {
    /// Which one.
    pub form: Collected,
    /// What its elements are, or keys and values; none where they are bytes.
    pub parts: Vec<Kind>,
    /// Where things are in its memory.
    pub layout: Vec<u64>,
}

/// A field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldDescription {
    /// Its name.
    pub name: String,
    /// Where in the record it lies.
    pub offset: u64,
    /// What it holds.
    pub kind: Kind,
}

impl TypeTable {
    /// Of a program's own type.
    #[must_use]
    pub fn of<T: Stored>() -> Self {
        Self::of_info(type_of::<T>())
    }

    pub(super) fn of_info(info: TypeInfo) -> Self {
        let mut table = Self { root: Kind::Flag, types: BTreeMap::new() };
        let mut waiting = Vec::new();
        table.root = kind_of(info, &mut waiting);
        while let Some(info) = waiting.pop() {
            if table.types.contains_key(&info.fingerprint) || table.types.len() >= TYPES_MAX {
                continue;
            }
            table.types.insert(info.fingerprint, describe(info, &mut waiting));
        }
        table
    }

    /// What it is the table of.
    #[must_use]
    pub const fn root(&self) -> &Kind {
        &self.root
    }

    /// The description of a type by its fingerprint.
    #[must_use]
    pub fn get(&self, fingerprint: u64) -> Option<&TypeDescription> {
        self.types.get(&fingerprint)
    }

    /// All descriptions.
    pub fn iter(&self) -> impl Iterator<Item = &TypeDescription> {
        self.types.values()
    }

    /// The size of what such a place holds. None for a type that is not in the table, or a size beyond all bounds.
    #[must_use]
    pub fn size_of(&self, kind: &Kind) -> Option<u64> {
        match kind {
            Kind::Plain(plain) => Some(plain.size()),
            Kind::Flag => Some(1),
            Kind::Array(len, element) => self.size_of(element)?.checked_mul(*len),
            Kind::Pointer(_) => Some(8),
            Kind::Span(_) => Some(16),
            Kind::Named(fingerprint) => Some(self.get(*fingerprint)?.size),
        }
    }

    /// How people call such a type.
    #[must_use]
    pub fn name_of(&self, kind: &Kind) -> String {
        match kind {
            Kind::Plain(plain) => plain.name().to_string(),
            Kind::Flag => "flag".to_string(),
            Kind::Array(len, element) => format!("[{}; {len}]", self.name_of(element)),
            Kind::Pointer(target) => format!("InvPtr<{}>", self.name_of(target)),
            Kind::Span(target) => format!("InvSpan<{}>", self.name_of(target)),
            Kind::Named(fingerprint) => self.get(*fingerprint).map_or("?", |found| &found.name).to_string(),
        }
    }

    /// The fingerprint of such a type.
    #[must_use]
    pub fn fingerprint_of(&self, kind: &Kind) -> u64 {
        match kind {
            Kind::Plain(plain) => Fingerprint::new(plain.name(), plain.size()).finish(),
            Kind::Flag => crate::Flag::FINGERPRINT,
            Kind::Array(len, element) => {
                Fingerprint::new("array", *len).word(self.fingerprint_of(element)).finish()
            }
            Kind::Pointer(target) => self.with_target(Fingerprint::new("pointer", 1), target),
            Kind::Span(target) => self.with_target(Fingerprint::new("span", 1), target),
            Kind::Named(fingerprint) => *fingerprint,
        }
    }

    fn with_target(&self, pointer: Fingerprint, target: &Kind) -> u64 {
        let (name, arguments) = self.declared(target);
        let named = pointer.text(name);
        if arguments == 0 { named.finish() } else { named.word(arguments).finish() }
    }

    /// `NAME` and `ARGUMENTS` of such a type.
    fn declared(&self, kind: &Kind) -> (&str, u64) {
        let with = |count: u64, argument: &Kind| {
            let (name, arguments) = self.declared(argument);
            Fingerprint::new("arguments", count).text(name).word(arguments).finish()
        };
        match kind {
            Kind::Plain(plain) => (plain.name(), 0),
            Kind::Flag => (crate::Flag::NAME, 0),
            Kind::Array(len, element) => ("array", with(*len, element)),
            Kind::Pointer(target) => ("pointer", with(1, target)),
            Kind::Span(target) => ("span", with(1, target)),
            Kind::Named(fingerprint) => {
                self.get(*fingerprint).map_or(("", 0), |found| (found.name.as_str(), found.arguments))
            }
        }
    }

    /// Checks that it is the table of `fingerprint`: each description gives the fingerprint by which it is known, records have fields
    /// without gaps, and no type is missing.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(super) fn verify(&self, fingerprint: u64) -> Result<(), Error> {
        self.check_kind(&self.root)?;
        if self.fingerprint_of(&self.root) != fingerprint {
            return Err(Error::Damaged);
        }
        for found in self.iter() {
            let named = Fingerprint::new(&found.name, found.version);
            let computed = match &found.form {
                // It says nothing, so there is nothing to prove.
                Form::Opaque => found.fingerprint,
                Form::Collection(collection) => {
                    collection.parts.iter().try_for_each(|part| self.check_kind(part))?;
                    self.fingerprint_of_collection(collection)
                }
                Form::Record(fields) => {
                    let mut hash = named.word(found.size);
                    let mut end = 0u64;
                    for field in fields {
                        self.check_kind(&field.kind)?;
                        if field.offset != end {
                            return Err(Error::Damaged);
                        }
                        let size = self.size_of(&field.kind).ok_or(Error::Damaged)?;
                        end = end.checked_add(size).ok_or(Error::Damaged)?;
                        hash =
                            hash.text(&field.name).word(field.offset).word(self.fingerprint_of(&field.kind));
                    }
                    if end != found.size {
                        return Err(Error::Damaged);
                    }
                    if found.arguments == 0 { hash.finish() } else { hash.word(found.arguments).finish() }
                }
                Form::Choice(variants) => {
                    let start = named.word(found.size);
                    let hash =
                        variants.iter().fold(start, |hash, (name, number)| hash.text(name).word(*number));
                    let fits = matches!(found.size, 1 | 2 | 4);
                    if !fits || found.arguments != 0 {
                        return Err(Error::Damaged);
                    }
                    Fingerprint::new("choice", 1).word(hash.finish()).finish()
                }
            };
            if computed != found.fingerprint {
                return Err(Error::Damaged);
            }
        }
        Ok(())
    }

    fn fingerprint_of_collection(&self, collection: &CollectionDescription) -> u64 {
        let start = collection.form.fingerprint(collection.parts.is_empty());
        collection.parts.iter().fold(start, |hash, part| hash.word(self.fingerprint_of(part))).finish()
    }

    /// Checks that all types that a kind names are there.
    fn check_kind(&self, kind: &Kind) -> Result<(), Error> {
        match kind {
            Kind::Plain(_) | Kind::Flag => Ok(()),
            Kind::Array(_, inner) | Kind::Pointer(inner) | Kind::Span(inner) => self.check_kind(inner),
            Kind::Named(fingerprint) => self.get(*fingerprint).map(|_| ()).ok_or(Error::Damaged),
        }
    }
}

fn kind_of(info: TypeInfo, waiting: &mut Vec<TypeInfo>) -> Kind {
    match info.shape {
        Shape::Plain(plain) => Kind::Plain(plain),
        Shape::Flag => Kind::Flag,
        Shape::Array { len, element } => Kind::Array(len, Box::new(kind_of(element(), waiting))),
        Shape::Pointer(target) => Kind::Pointer(Box::new(kind_of(target(), waiting))),
        Shape::Span(target) => Kind::Span(Box::new(kind_of(target(), waiting))),
        Shape::Opaque | Shape::Record { .. } | Shape::Choice { .. } | Shape::Collection { .. } => {
            waiting.push(info);
            Kind::Named(info.fingerprint)
        }
    }
}

fn describe(info: TypeInfo, waiting: &mut Vec<TypeInfo>) -> TypeDescription {
    let (version, form) = match info.shape {
        Shape::Record { version, fields } => {
            let fields = fields.iter().map(|field| FieldDescription {
                name: field.name.to_string(),
                offset: field.offset,
                kind: kind_of((field.of)(), waiting),
            });
            (version, Form::Record(fields.collect()))
        }
        Shape::Choice { version, variants } => (
            version,
            Form::Choice(variants.iter().map(|&(name, number)| (name.to_string(), number)).collect()),
        ),
        Shape::Collection { form, parts, layout } => {
            let parts = parts.iter().map(|part| kind_of(part(), waiting)).collect();
            (0, Form::Collection(CollectionDescription { form, parts, layout: layout.to_vec() }))
        }
        _ => (0, Form::Opaque),
    };
    TypeDescription {
        name: info.name.to_string(),
        version,
        fingerprint: info.fingerprint,
        arguments: info.arguments,
        size: info.size,
        form,
    }
}
