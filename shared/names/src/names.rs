//! What can be done with names.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::ops::Bound::{Excluded, Included, Unbounded};

use twizzler_abi::{Error, ObjId};
use twizzler_object::collections::{BytesMap, MapRoot};
use twizzler_object::{Area, Backend, Guard, Locked, Object, Ptr, Reader, Stored, Tx};

use crate::entry::{Bound, DirectoryNo, Entry, key};
use crate::error::NameError;
use crate::path::{self, PATH_NAMES_MAX};

/// Everyone finds the names by this.
const NONCE: [u8; 16] = *b"twizzler names\0\0";

/// Root of the names.
#[derive(Stored)]
#[stored(name = "twizzler.names", version = 1)]
#[repr(C)]
struct Root {
    /// Number of the newest directory.
    newest: u64,
    reserved: u64,
    /// (directory, name) to what it stands for.
    entries: MapRoot,
}

/// All names of the system.
pub struct Names<'s, B: Backend> {
    guard: &'s Guard<'s, B>,
    root: Ptr<'s, Root>,
}

impl<B: Backend> Clone for Names<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Names<'_, B> {}

/// Where a path's last name is: the directories passed on the way, the last of them that of the name.
struct Place<'p> {
    way: Vec<DirectoryNo>,
    name: &'p str,
}

impl Place<'_> {
    fn key(&self) -> Vec<u8> {
        key(self.way.last().copied().unwrap_or(0), self.name)
    }
}

impl<'s, B: Backend> Names<'s, B> {
    /// Opens the names; makes them, empty, where there are none yet.
    ///
    /// # Errors
    /// [`Error::OutOfNvm`], [`Error::Damaged`], and the system's own.
    pub fn open(guard: &'s Guard<'s, B>) -> Result<Self, NameError> {
        Ok(Self { guard, root: guard.well_known::<Root>(NONCE)?.base() })
    }

    /// The object that holds the names.
    #[must_use]
    pub fn area(&self) -> Area<'s> {
        self.root.object()
    }

    /// Keeps everyone else from changing names.
    ///
    /// # Errors
    /// As [`Guard::lock`].
    pub fn lock(&self) -> Result<Locked<'s, B>, NameError> {
        Ok(self.guard.lock(self.area())?)
    }

    /// What a path stands for.
    ///
    /// # Errors
    /// [`NameError::NoSuchName`], [`NameError::NotADirectory`] on the way, a bad path.
    pub fn lookup(&self, path: &str) -> Result<Entry, NameError> {
        let _locked = self.lock()?;
        self.lookup_by(&self.guard, path)
    }

    /// The same, as seen by a transaction that may have changed names.
    ///
    /// # Errors
    /// As [`Names::lookup`].
    pub fn lookup_by(&self, reader: &impl Reader<'s>, path: &str) -> Result<Entry, NameError> {
        let names = path::names(path)?;
        self.walk(reader, &names).map(|(bound, _)| bound.into())
    }

    /// The object that a path stands for.
    ///
    /// # Errors
    /// [`NameError::IsADirectory`]; otherwise as [`Names::lookup`].
    pub fn object(&self, path: &str) -> Result<ObjId, NameError> {
        match self.lookup(path)? {
            Entry::Object(id) => Ok(id),
            Entry::Directory => Err(NameError::IsADirectory),
        }
    }

    /// The entries of a directory, by name.
    ///
    /// # Errors
    /// [`NameError::NotADirectory`]; otherwise as [`Names::lookup`].
    pub fn list(&self, path: &str) -> Result<Vec<(String, Entry)>, NameError> {
        let _locked = self.lock()?;
        self.list_by(&self.guard, path)
    }

    /// The same, as seen by a transaction.
    ///
    /// # Errors
    /// As [`Names::list`].
    pub fn list_by(&self, reader: &impl Reader<'s>, path: &str) -> Result<Vec<(String, Entry)>, NameError> {
        let (Bound::Directory(directory), _) = self.walk(reader, &path::names(path)?)? else {
            return Err(NameError::NotADirectory);
        };
        self.entries_of(reader, directory)
            .map(|entry| entry.map(|(name, bound)| (name, bound.into())))
            .collect()
    }

    /// All that is below a directory, as seen by a transaction, by paths from there: each directory before what is in it.
    ///
    /// # Errors
    /// [`NameError::Tangled`]; otherwise as [`Names::list`].
    pub fn tree_by(&self, reader: &impl Reader<'s>, path: &str) -> Result<Vec<(String, Entry)>, NameError> {
        match self.walk(reader, &path::names(path)?)? {
            (Bound::Directory(directory), way) => self.tree(reader, directory, way),
            _ => Err(NameError::NotADirectory),
        }
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`NameError::Exists`]; otherwise as [`Names::lookup`].
    pub fn make_directory(&self, tx: &mut Tx<'s, B>, path: &str) -> Result<(), NameError> {
        let place = self.vacant(tx, path)?;
        let number = tx.get(self.root.at(Root::newest)).checked_add(1).ok_or(Error::Damaged)?;
        tx.set(self.root.at(Root::newest), number)?;
        self.put(tx, &place, Bound::Directory(number))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`NameError::NotEmpty`], [`NameError::NotADirectory`]; otherwise as [`Names::lookup`].
    pub fn remove_directory(&self, tx: &mut Tx<'s, B>, path: &str) -> Result<(), NameError> {
        match self.taken(tx, path)? {
            (_, Bound::Object(_)) => Err(NameError::NotADirectory),
            (_, Bound::Directory(number)) if self.entries_of(tx, number).next().is_some() => {
                Err(NameError::NotEmpty)
            }
            (place, Bound::Directory(_)) => self.remove(tx, &place),
        }
    }

    /// Names an object.
    ///
    /// # Errors
    /// [`NameError::Exists`]; otherwise as [`Names::lookup`].
    pub fn bind(&self, tx: &mut Tx<'s, B>, path: &str, id: ObjId) -> Result<(), NameError> {
        let place = self.vacant(tx, path)?;
        if id.is_none() {
            return Err(Error::InvalidArgument.into());
        }
        self.put(tx, &place, Bound::Object(id))
    }

    /// Takes a name away from its object. Gives the object, which goes on to exist.
    ///
    /// # Errors
    /// [`NameError::IsADirectory`]; otherwise as [`Names::lookup`].
    pub fn unbind(&self, tx: &mut Tx<'s, B>, path: &str) -> Result<ObjId, NameError> {
        match self.taken(tx, path)? {
            (_, Bound::Directory(_)) => Err(NameError::IsADirectory),
            (place, Bound::Object(id)) => self.remove(tx, &place).map(|()| id),
        }
    }

    /// Gives an object or a directory another name, perhaps elsewhere.
    ///
    /// # Errors
    /// [`NameError::Exists`] where the new name stands for something, [`NameError::IntoItself`], [`NameError::TooLong`] where no path would
    /// reach all that is in a directory; otherwise as [`Names::lookup`].
    pub fn rename(&self, tx: &mut Tx<'s, B>, from: &str, to: &str) -> Result<(), NameError> {
        let (old, bound) = self.taken(tx, from)?;
        let new = self.vacant(tx, to)?;
        if let Bound::Directory(number) = bound
            && new.way.contains(&number)
        {
            return Err(NameError::IntoItself);
        }
        if let Bound::Directory(number) = bound
            && new.way.len() > old.way.len()
        {
            let below = self.tree(tx, number, old.way.clone())?;
            let deepest = below.iter().map(|(path, _)| path.split('/').count()).max().unwrap_or(0);
            if new.way.len() + deepest > PATH_NAMES_MAX {
                return Err(NameError::TooLong);
            }
        }
        self.remove(tx, &old)?;
        self.put(tx, &new, bound)
    }

    /// Makes a named object whose base is a `T` of zeros.
    ///
    /// # Errors
    /// [`NameError::Exists`]; as [`Tx::create`]; otherwise as [`Names::lookup`].
    pub fn create<T: Stored>(&self, tx: &mut Tx<'s, B>, path: &str) -> Result<Object<'s, T>, NameError> {
        let place = self.vacant(tx, path)?;
        let object = tx.create::<T>()?;
        self.put(tx, &place, Bound::Object(self.guard.id_of(object.area())))?;
        Ok(object)
    }

    /// Makes a named object of plain bytes: a file.
    ///
    /// # Errors
    /// As [`Names::create`].
    pub fn create_any(&self, tx: &mut Tx<'s, B>, path: &str) -> Result<Area<'s>, NameError> {
        let place = self.vacant(tx, path)?;
        let area = tx.create_any()?;
        self.put(tx, &place, Bound::Object(self.guard.id_of(area)))?;
        Ok(area)
    }

    /// Deletes an object together with its name. A name of an object that is gone already just goes.
    ///
    /// # Errors
    /// As [`Names::unbind`]; [`Error::AccessDenied`] for an object that grants no delete, and for the one that holds the names.
    pub fn delete(&self, tx: &mut Tx<'s, B>, path: &str) -> Result<ObjId, NameError> {
        let id = self.unbind(tx, path)?;
        if id == self.guard.id_of(self.area()) {
            return Err(Error::AccessDenied.into());
        }
        match tx.delete(id) {
            Ok(()) | Err(Error::NoSuchObject) => Ok(id),
            Err(error) => Err(error.into()),
        }
    }

    fn map(&self) -> BytesMap<'s> {
        BytesMap::new(self.root.at(Root::entries))
    }

    fn get(&self, reader: &impl Reader<'s>, key: &[u8]) -> Result<Option<Bound>, NameError> {
        let value = self.map().get(reader, key)?;
        Ok(value.map(|value| Bound::decode(&value)).transpose()?)
    }

    /// What the names lead to, and the directories passed on the way.
    fn walk(&self, reader: &impl Reader<'s>, names: &[&str]) -> Result<(Bound, Vec<DirectoryNo>), NameError> {
        let mut at = Bound::Directory(0);
        let mut way = Vec::new();
        for name in names {
            let Bound::Directory(directory) = at else { return Err(NameError::NotADirectory) };
            way.push(directory);
            at = self.get(reader, &key(directory, name))?.ok_or(NameError::NoSuchName)?;
        }
        Ok((at, way))
    }

    /// A path's last name and its directory, which exists. Locks the names.
    fn place<'p>(&self, tx: &mut Tx<'s, B>, path: &'p str) -> Result<Place<'p>, NameError> {
        tx.lock(self.area())?;
        let names = path::names(path)?;
        let (&name, parents) = names.split_last().ok_or(NameError::Exists)?;
        match self.walk(tx, parents)? {
            (Bound::Directory(directory), mut way) => {
                way.push(directory);
                Ok(Place { way, name })
            }
            _ => Err(NameError::NotADirectory),
        }
    }

    fn vacant<'p>(&self, tx: &mut Tx<'s, B>, path: &'p str) -> Result<Place<'p>, NameError> {
        let place = self.place(tx, path)?;
        if self.get(tx, &place.key())?.is_some() {
            return Err(NameError::Exists);
        }
        Ok(place)
    }

    fn taken<'p>(&self, tx: &mut Tx<'s, B>, path: &'p str) -> Result<(Place<'p>, Bound), NameError> {
        if path::names(path)?.is_empty() {
            return Err(NameError::IsADirectory);
        }
        let place = self.place(tx, path)?;
        let bound = self.get(tx, &place.key())?.ok_or(NameError::NoSuchName)?;
        Ok((place, bound))
    }

    fn put(&self, tx: &mut Tx<'s, B>, place: &Place<'_>, bound: Bound) -> Result<(), NameError> {
        self.map().insert(tx, &place.key(), &bound.encode())?;
        Ok(())
    }

    fn remove(&self, tx: &mut Tx<'s, B>, place: &Place<'_>) -> Result<(), NameError> {
        self.map().remove(tx, &place.key())?;
        Ok(())
    }

    /// All that is below a directory, which `way` leads to.
    fn tree(
        &self,
        reader: &impl Reader<'s>,
        top: DirectoryNo,
        way: Vec<DirectoryNo>,
    ) -> Result<Vec<(String, Entry)>, NameError> {
        // One that is met again may be met without end.
        let mut met: BTreeSet<DirectoryNo> = way.into_iter().collect();
        let (mut all, mut rest) = (Vec::new(), vec![(String::new(), Bound::Directory(top))]);
        while let Some((path, bound)) = rest.pop() {
            if let Bound::Directory(directory) = bound {
                if !met.insert(directory) {
                    return Err(NameError::Tangled);
                }
                let below = self.entries_of(reader, directory).collect::<Result<Vec<_>, _>>()?;
                let join = |name| if path.is_empty() { name } else { format!("{path}/{name}") };
                rest.extend(below.into_iter().rev().map(|(name, bound)| (join(name), bound)));
            }
            if !path.is_empty() {
                all.push((path, bound.into()));
            }
        }
        Ok(all)
    }

    fn entries_of<'r, R: Reader<'s>>(
        &self,
        reader: &'r R,
        directory: DirectoryNo,
    ) -> impl Iterator<Item = Result<(String, Bound), NameError>> + use<'r, 's, B, R> {
        let first = key(directory, "");
        let end = directory.checked_add(1).map(|next| key(next, ""));
        let end = end.as_deref().map_or(Unbounded, Excluded);
        self.map().range(reader, (Included(&first[..]), end)).map(|entry| {
            let (key, value) = entry?;
            let name = key.get(8..).and_then(|name| String::from_utf8(name.to_vec()).ok());
            let name = name.filter(|name| path::is_name(name)).ok_or(Error::Damaged)?;
            Ok((name, Bound::decode(&value)?))
        })
    }
}
