//! How the type of an object differs from the one that it was to be opened as.

use core::fmt;

use super::table::{Form, TypeTable};
use crate::error::TypeName;

/// How two types differ, as far as descriptions tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    /// Nobody described the object's type.
    Unknown,
    /// It is another type altogether.
    Name,
    /// It is another version of the type.
    Version {
        /// The program's.
        wanted: u64,
        /// The object's.
        found: u64,
    },
    /// Of the same name and version, and yet there is first of all this field in one and not so in the other.
    Field(TypeName),
    /// Something else: the parameters of a generic type, or the types that fields point to.
    Other,
}

impl Difference {
    /// Between a program's type and what an object was described as.
    #[must_use]
    pub fn between(wanted: &TypeTable, found: &TypeTable) -> Self {
        if wanted.name_of(wanted.root()) != found.name_of(found.root()) {
            return Self::Name;
        }
        let root = |table: &TypeTable| table.fingerprint_of(table.root());
        Self::of_types((wanted, root(wanted)), (found, root(found)))
    }

    /// Between types of two tables, by their fingerprints, that have one name.
    pub(crate) fn of_types(
        (wanted, wanted_fingerprint): (&TypeTable, u64),
        (found, found_fingerprint): (&TypeTable, u64),
    ) -> Self {
        let (Some(w), Some(f)) = (wanted.get(wanted_fingerprint), found.get(found_fingerprint)) else {
            return Self::Other;
        };
        if w.version != f.version {
            return Self::Version { wanted: w.version, found: f.version };
        }
        let (Form::Record(of_wanted), Form::Record(of_found)) = (&w.form, &f.form) else {
            return Self::Other;
        };
        let mut pairs = of_wanted.iter().zip(of_found);
        let differs = pairs.find(|(w, f)| {
            let same = (&w.name, w.offset) == (&f.name, f.offset);
            !same || wanted.fingerprint_of(&w.kind) != found.fingerprint_of(&f.kind)
        });
        let beyond = of_wanted.len().min(of_found.len());
        let field = differs.map(|(w, _)| w).or(of_wanted.get(beyond)).or(of_found.get(beyond));
        field.map_or(Self::Other, |field| Self::Field(TypeName::of(&field.name)))
    }
}

/// What a message that names both types says further.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown | Self::Name => Ok(()),
            Self::Version { wanted, found } => write!(f, ": it is version {found}, not {wanted}"),
            Self::Field(name) => write!(f, ": they differ in the field {name}, though not in the version"),
            Self::Other => write!(f, ": they differ in their parameters"),
        }
    }
}
