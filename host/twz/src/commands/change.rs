//! `mkdir`, `mv`, `ln`, `rm`: changes of names. Each command is one transaction: all of it happens, or nothing.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use twizzler_abi::{Error, ObjId};
use twizzler_names::{Entry, NameError, Names};
use twizzler_object::{Backend, Tx};

use crate::answer::Answer;
use crate::graph::is_of_the_system;
use crate::medium::Medium;
use crate::object::metadata;
use crate::open::Opened;
use crate::paths::{by_id, clean, entry_by, join, last_part, walk_by};
use crate::status::{Failure, Status};

/// Arguments of `mkdir`.
#[derive(Args, Clone, Debug)]
pub struct MkdirArguments {
    /// The store
    pub store: PathBuf,
    /// Directories to make
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Directories on the way too; none of them need be new
    #[arg(short, long)]
    pub parents: bool,
}

/// Arguments of `mv` and `ln`.
#[derive(Args, Clone, Debug)]
pub struct TwoNames {
    /// The store
    pub store: PathBuf,
    /// What is there; for `ln`, an ID will do
    pub from: String,
    /// The new name, or a directory to go into
    pub to: String,
}

/// Arguments of `rm`.
#[derive(Args, Clone, Debug)]
pub struct RmArguments {
    /// The store
    pub store: PathBuf,
    /// Names to remove, or IDs of objects
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Directories with all that is in them
    #[arg(short, long)]
    pub recursive: bool,
    /// Also objects that are damaged, or that do not grant it
    #[arg(long)]
    pub force: bool,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
struct Changed {
    /// Paths that are new.
    made: Vec<String>,
    /// Paths that are gone.
    removed: Vec<String>,
    /// Objects that are gone.
    deleted: Vec<String>,
}

impl fmt::Display for Changed {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// A name in a transaction, with what was wrong with it.
struct Wrong(String, NameError);

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self("the store".to_owned(), error.into())
    }
}

fn of(name: &str) -> impl FnOnce(NameError) -> Wrong {
    let name = name.to_owned();
    move |error| Wrong(name, error)
}

impl From<Wrong> for Failure {
    fn from(Wrong(name, error): Wrong) -> Self {
        Self::of(name)(error)
    }
}

/// Makes the directories on the way to a name.
///
/// # Errors
/// One of them is an object.
pub fn make_parents<'s, B: Backend>(
    names: &Names<'s, B>,
    tx: &mut Tx<'s, B>,
    path: &str,
) -> Result<(), NameError> {
    for (end, _) in path.match_indices('/') {
        match names.make_directory(tx, &path[..end]) {
            Ok(()) | Err(NameError::Exists) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `mkdir`.
///
/// # Errors
/// Something has the name.
pub fn mkdir<M: Medium>(store: &Opened<M>, arguments: &MkdirArguments) -> Result<Answer, Failure> {
    let guard = store.space.enter();
    let names = store.names(&guard)?;
    let made = guard.transact(|tx| {
        let mut made = Vec::new();
        for name in &arguments.names {
            let path = clean(name);
            if arguments.parents {
                make_parents(&names, tx, path).map_err(of(name))?;
            }
            match names.make_directory(tx, path) {
                Ok(()) => made.push(path.to_owned()),
                Err(NameError::Exists)
                    if arguments.parents && names.lookup_by(tx, path) == Ok(Entry::Directory) => {}
                Err(error) => return Err(of(name)(error)),
            }
        }
        Ok(made)
    });
    Ok(Answer::of(&Changed { made: made?, removed: Vec::new(), deleted: Vec::new() }))
}

/// Where something goes that is to become `to`: into it, if that is a directory.
fn target<M: Medium>(names: &Names<'_, M>, from: &str, to: &str) -> String {
    let to = clean(to);
    match names.lookup(to) {
        Ok(Entry::Directory) => join(to, last_part(clean(from))),
        _ => to.to_owned(),
    }
}

/// `mv`.
///
/// # Errors
/// No such name, or the new one is taken.
pub fn mv<M: Medium>(store: &Opened<M>, arguments: &TwoNames) -> Result<Answer, Failure> {
    let guard = store.space.enter();
    let names = store.names(&guard)?;
    let from = clean(&arguments.from);
    names.lookup(from).map_err(Failure::of(&arguments.from))?;
    let to = target(&names, from, &arguments.to);
    guard.transact(|tx| names.rename(tx, from, &to)).map_err(Failure::of(&to))?;
    Ok(Answer::of(&Changed { made: vec![to], removed: vec![from.to_owned()], deleted: Vec::new() }))
}

/// `ln`.
///
/// # Errors
/// No such object, or the new name is taken.
pub fn ln<M: Medium>(store: &Opened<M>, arguments: &TwoNames) -> Result<Answer, Failure> {
    let guard = store.space.enter();
    let names = store.names(&guard)?;
    let to = target(&names, &arguments.from, &arguments.to);
    guard.transact(|tx| {
        // Nobody takes the object's last name away meanwhile.
        tx.lock(names.area())?;
        let id = match entry_by(&names, tx, &arguments.from)? {
            Entry::Object(id) => id,
            Entry::Directory => return Err(Failure::of(&arguments.from)(NameError::IsADirectory)),
        };
        store.medium().stat(id).map_err(Failure::of(&arguments.from))?;
        names.bind(tx, &to, id).map_err(Failure::of(&to))
    })?;
    Ok(Answer::of(&Changed { made: vec![to], removed: Vec::new(), deleted: Vec::new() }))
}

/// `rm`.
///
/// # Errors
/// No such name; a directory, unless told so.
pub fn rm<M: Medium>(store: &Opened<M>, arguments: &RmArguments) -> Result<Answer, Failure> {
    store.medium().removes();
    let guard = store.space.enter();
    let names = store.names(&guard)?;
    let plan = guard.transact(|tx| {
        // First, so that nobody gives an object another name between the plan and the deed.
        tx.lock(names.area())?;
        let plan = Plan::of(store, &names, tx, arguments)?;
        for path in &plan.names {
            names.unbind(tx, path).map_err(Failure::of(path))?;
        }
        for path in plan.directories.iter().rev() {
            names.remove_directory(tx, path).map_err(Failure::of(path))?;
        }
        for id in &plan.objects {
            match tx.delete(*id) {
                Ok(()) | Err(Error::NoSuchObject) => {}
                Err(error) => return Err(Failure::of(id)(error)),
            }
        }
        Ok(plan)
    })?;
    // Without a transaction: what a program can't even describe, no program has changed.
    for id in &plan.forced {
        store.medium().delete(*id).map_err(Failure::of(id))?;
    }
    let deleted = plan.objects.iter().chain(&plan.forced).map(ToString::to_string).collect();
    let removed = plan.names.into_iter().chain(plan.directories).collect();
    Ok(Answer::of(&Changed { made: Vec::new(), removed, deleted }))
}

/// What `rm` is to do.
#[derive(Default)]
struct Plan {
    names: Vec<String>,
    /// Each before those in it.
    directories: Vec<String>,
    /// Objects that lose their last name.
    objects: Vec<ObjId>,
    /// Of those, objects that a transaction can't delete.
    forced: Vec<ObjId>,
}

impl Plan {
    /// What is to be done, as the transaction sees the names.
    fn of<'s, M: Medium>(
        store: &Opened<M>,
        names: &Names<'s, M>,
        tx: &Tx<'s, M>,
        arguments: &RmArguments,
    ) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let mut losing = Vec::new();
        let all = by_id(walk_by(names, tx, "")?);
        let is_stores_own =
            |id| metadata(store.medium(), id).is_ok_and(|found| is_of_the_system(found.nonce));
        for text in &arguments.names {
            let path = clean(text);
            match (entry_by(names, tx, text)?, names.lookup_by(tx, path).is_ok()) {
                (Entry::Object(id), true) => {
                    plan.names.push(path.to_owned());
                    losing.push(id);
                }
                (Entry::Object(id), false) if is_stores_own(id) => {
                    let what = format!(
                        "{id} is the store's own, with its names or changes that are not done; it can't be removed"
                    );
                    return Err(Failure::new(Status::Conflict, what)
                        .advise("`twz repair` mends such objects where they are damaged"));
                }
                (Entry::Object(id), false) => {
                    store.medium().stat(id).map_err(Failure::of(text))?;
                    if let Some(names) = all.get(&id) {
                        let what = format!("{id} has a name: {}", names.join(", "));
                        return Err(Failure::new(Status::Conflict, what).advise("remove it by its name"));
                    }
                    plan.objects.push(id);
                }
                (Entry::Directory, _) if path.is_empty() => {
                    return Err(Failure::new(Status::Usage, "the root directory can't be removed"));
                }
                (Entry::Directory, _) => {
                    let below = walk_by(names, tx, path)?;
                    if !below.is_empty() && !arguments.recursive {
                        return Err(Failure::of(text)(NameError::NotEmpty));
                    }
                    plan.directories.push(path.to_owned());
                    for named in below {
                        match named.entry {
                            Entry::Object(id) => {
                                plan.names.push(named.path);
                                losing.push(id);
                            }
                            Entry::Directory => plan.directories.push(named.path),
                        }
                    }
                }
            }
        }
        plan.names.sort_unstable();
        plan.names.dedup();
        plan.directories.sort_unstable();
        plan.directories.dedup();
        losing.sort_unstable();
        losing.dedup();
        let is_removed = |name: &String| plan.names.binary_search(name).is_ok();
        losing.retain(|id| all.get(id).is_none_or(|names| names.iter().all(is_removed)));
        // Those are there without a name, too.
        losing.retain(|id| !is_stores_own(*id));
        plan.objects.extend(losing);
        if arguments.force {
            plan.force(store);
        }
        Ok(plan)
    }

    /// Sets objects apart that no transaction deletes: damaged ones, and those that do not grant it.
    fn force<M: Medium>(&mut self, store: &Opened<M>) {
        let (forced, objects) = self.objects.iter().partition(|id| {
            store.medium().stat(**id).is_err_and(|error| error != Error::NoSuchObject)
                || store.medium().stat(**id).is_ok_and(|stat| {
                    stat.quarantine != 0 || stat.default_rights & twizzler_abi::Rights::DELETE.bits() == 0
                })
        });
        (self.forced, self.objects) = (forced, objects);
    }
}
