//! Names and objects, as people give them on the command line.

use std::collections::BTreeMap;

use twizzler_abi::ObjId;
use twizzler_abi::call::USUAL_RIGHTS;
use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::Reader;

use crate::medium::Medium;
use crate::open::Opened;
use crate::status::{Failure, Status};

/// A path with what it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// The path, without a leading `/`.
    pub path: String,
    /// What it stands for.
    pub entry: Entry,
}

/// A path as the names know it: people begin paths with a slash, and end directories with one.
#[must_use]
pub fn clean(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.strip_prefix('/').unwrap_or(path)
}

/// A path's last name.
#[must_use]
pub fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A path within a directory.
#[must_use]
pub fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// The object that holds all names.
#[must_use]
pub fn names_id() -> ObjId {
    ObjId::derive(&IdInputs {
        nonce: *b"twizzler names\0\0",
        owner: ObjId::NONE,
        flags: ObjectFlags::PERSISTENT,
        default_rights: USUAL_RIGHTS,
    })
}

impl<M: Medium> Opened<M> {
    /// What a name stands for, or an ID: 32 hexadecimal digits.
    ///
    /// # Errors
    /// Neither.
    pub fn entry(&self, text: &str) -> Result<Entry, Failure> {
        let guard = self.space.enter();
        let names = self.names(&guard)?;
        let _locked = names.lock()?;
        entry_by(&names, &&guard, text)
    }

    /// The object of a name or of an ID.
    ///
    /// # Errors
    /// There is none, or it is a directory.
    pub fn object(&self, text: &str) -> Result<ObjId, Failure> {
        match self.entry(text)? {
            Entry::Object(id) => Ok(id),
            Entry::Directory => Err(Failure::new(Status::Conflict, format!("{text} is a directory"))
                .advise("name an object in it: `twz ls` lists them")),
        }
    }

    /// All that is below a directory, each directory before what is in it.
    ///
    /// # Errors
    /// The names are damaged, or it is no directory.
    pub fn walk(&self, directory: &str) -> Result<Vec<Named>, Failure> {
        let guard = self.space.enter();
        let names = self.names(&guard)?;
        // Else a name that is moved meanwhile might be in neither place.
        let _locked = names.lock()?;
        walk_by(&names, &&guard, directory)
    }

    /// The names of each object.
    ///
    /// # Errors
    /// The names are damaged.
    pub fn names_by_id(&self) -> Result<BTreeMap<ObjId, Vec<String>>, Failure> {
        Ok(by_id(self.walk("")?))
    }
}

/// As [`Opened::entry`], as seen by a transaction.
///
/// # Errors
/// The same.
pub fn entry_by<'s, M: Medium>(
    names: &Names<'s, M>,
    reader: &impl Reader<'s>,
    text: &str,
) -> Result<Entry, Failure> {
    match (names.lookup_by(reader, clean(text)), text.parse()) {
        (Ok(entry), _) => Ok(entry),
        (Err(NameError::NoSuchName | NameError::NotADirectory), Ok(id)) => Ok(Entry::Object(id)),
        (Err(error), _) => Err(Failure::of(text)(error)),
    }
}

/// As [`Opened::walk`], as seen by a transaction.
///
/// # Errors
/// The same.
pub fn walk_by<'s, M: Medium>(
    names: &Names<'s, M>,
    reader: &impl Reader<'s>,
    directory: &str,
) -> Result<Vec<Named>, Failure> {
    let directory = clean(directory);
    let below = names.tree_by(reader, directory).map_err(Failure::of(shown(directory)))?;
    Ok(below.into_iter().map(|(path, entry)| Named { path: join(directory, &path), entry }).collect())
}

/// The names of each object.
#[must_use]
pub fn by_id(all: Vec<Named>) -> BTreeMap<ObjId, Vec<String>> {
    let mut names: BTreeMap<ObjId, Vec<String>> = BTreeMap::new();
    for named in all {
        if let Entry::Object(id) = named.entry {
            names.entry(id).or_default().push(named.path);
        }
    }
    names
}

/// A path as messages show it.
#[must_use]
pub fn shown(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_both_ends_make_no_difference() {
        assert_eq!((clean("/a/b/"), clean("a"), clean("/")), ("a/b", "a", ""));
        assert_eq!((last_part("a/b"), last_part("a")), ("b", "a"));
        assert_eq!((join("", "a"), join("a", "b")), ("a".to_owned(), "a/b".to_owned()));
    }
}
