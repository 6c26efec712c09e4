//! `gc`: objects that nothing leads to: no name, no pointer, no ID among the bytes of anything that can be reached.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use twizzler_abi::{Error, ObjId};
use twizzler_object::types::TYPE_OBJECT_FINGERPRINT;

use crate::answer::{Answer, Table};
use crate::graph::{Reached, is_well_known, reach};
use crate::medium::Medium;
use crate::object::{Facts, facts, metadata, stored_bytes};
use crate::open::Opened;
use crate::progress;
use crate::size::Bytes;
use crate::status::{Failure, Status, is_refusal};

/// Objects that go in one transaction.
const BATCH: usize = 64;

/// Arguments of `gc`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
    /// Delete them; nobody else may use the store meanwhile
    #[arg(long)]
    pub delete: bool,
    /// Delete even though objects that can't be read might lead to them
    #[arg(long, requires = "delete")]
    pub force: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Garbage {
    objects: Vec<Facts>,
    stored_bytes: u64,
    deleted: bool,
    /// Objects that can't be read: what they lead to is not known.
    unread: Vec<String>,
    /// Objects that do not grant everyone to delete them.
    kept: Vec<String>,
}

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["OBJECT", "KIND", ">LENGTH", ">STORED"]);
        for Facts { id, kind, type_name, len_bytes, stored_bytes, .. } in &self.objects {
            let kind = type_name.as_deref().unwrap_or(kind.text()).to_owned();
            table.row([id.clone(), kind, len_bytes.to_string(), Bytes(*stored_bytes).to_string()]);
        }
        write!(f, "{table}")?;
        for id in &self.unread {
            writeln!(f, "{id} can't be read: what it leads to is not known")?;
        }
        for id in &self.kept {
            writeln!(f, "{id} does not grant everyone to delete it: kept")?;
        }
        let (count, stored) = (self.objects.len(), Bytes(self.stored_bytes));
        match (count, self.deleted) {
            (0, _) => writeln!(f, "something leads to every object"),
            (_, true) => writeln!(f, "{count} objects deleted, {stored}"),
            (_, false) => writeln!(f, "nothing leads to {count} objects, {stored}; --delete deletes them"),
        }
    }
}

/// All objects, and those of them that names or programs find.
pub(crate) struct Roots {
    pub(crate) all: Vec<ObjId>,
    pub(crate) roots: Vec<ObjId>,
}

/// Finds what every search starts from.
pub(crate) fn roots<M: Medium>(store: &Opened<M>) -> Result<Roots, Failure> {
    let all = store.medium().ids()?;
    let mut roots: Vec<ObjId> = store.names_by_id()?.into_keys().collect();
    // What can't be read is a root too: it is not for `gc` to delete. Descriptions of types are shared, and stay.
    let known = |id: &ObjId| {
        metadata(store.medium(), *id)
            .map_or(true, |found| is_well_known(found.nonce) || found.fingerprint == TYPE_OBJECT_FINGERPRINT)
    };
    roots.extend(all.iter().copied().filter(known));
    Ok(Roots { all, roots })
}

/// What can be reached by names and pointers.
pub(crate) fn reached<M: Medium>(store: &Opened<M>, from: &Roots) -> Reached {
    let bar = progress::of_bytes(stored_bytes(store.medium(), &from.all), "Following pointers");
    let reached = reach(store.medium(), &from.all, from.roots.iter().copied(), &bar);
    bar.finish_and_clear();
    reached
}

/// `gc`.
///
/// # Errors
/// The names can't be read; something can't be deleted.
pub fn run<M: Medium>(store: &Opened<M>, arguments: &Arguments) -> Result<Answer, Failure> {
    let from = roots(store)?;
    let reached = reached(store, &from);
    let mut lost: Vec<ObjId> = from.all.iter().copied().filter(|id| !reached.objects.contains(id)).collect();
    let mut garbage = Garbage {
        objects: Vec::new(),
        stored_bytes: 0,
        deleted: arguments.delete && !lost.is_empty(),
        unread: reached.unread.iter().map(|(id, _)| id.to_string()).collect(),
        kept: Vec::new(),
    };
    if garbage.deleted && !reached.unread.is_empty() && !arguments.force {
        if let Some((id, error)) = reached.unread.iter().find(|(_, error)| is_refusal(*error)) {
            return Err(Failure::of(id)(*error));
        }
        let what = format!("{} objects can't be read, and might lead to others", reached.unread.len());
        return Err(Failure::new(Status::Damaged, what)
            .advise("`twz check` lists them; `twz repair` first, or add --force"));
    }
    let all_facts: Vec<Facts> = lost.iter().map(|&id| facts(store.medium(), id)).collect();
    if arguments.delete {
        store.medium().removes();
        let bar = progress::of_steps(lost.len() as u64, "Deleting objects");
        for batch in lost.chunks_mut(BATCH) {
            let kept = delete(store, batch)?;
            garbage.kept.extend(kept.iter().map(ToString::to_string));
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
    }
    garbage.objects = all_facts;
    garbage.objects.retain(|facts| !garbage.kept.contains(&facts.id));
    garbage.stored_bytes = garbage.objects.iter().map(|facts| facts.stored_bytes).sum();
    let found = !garbage.objects.is_empty() && !garbage.deleted;
    Ok(Answer::of(&garbage).with(if found { Status::Found } else { Status::Done }))
}

/// Deletes a batch in one transaction. Gives those that do not grant it.
fn delete<M: Medium>(store: &Opened<M>, batch: &[ObjId]) -> Result<Vec<ObjId>, Failure> {
    let kept = store.space.transact(|tx| {
        let mut kept = Vec::new();
        for &id in batch {
            match tx.delete(id) {
                Ok(()) | Err(Error::NoSuchObject) => {}
                Err(Error::AccessDenied) => kept.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    })?;
    Ok(kept)
}
