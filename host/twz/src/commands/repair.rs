//! `repair`: mends what can be mended without destroying anything; more with `--force`.
//!
//! 1. Opening the store finishes what a power cut or a killed program interrupted, and restores what exists twice.
//! 2. Names that lead nowhere go.
//! 3. Objects that nothing leads to get names in `lost+found`.
//! 4. With `--force`: records of a directory's log that are damaged are given up; objects that are damaged are deleted, with their names;
//!    names that are damaged beyond reading are made anew, and all objects get names in `lost+found`.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use twizzler_abi::call::ObjectStat;
use twizzler_abi::{Error, ObjId};
use twizzler_names::{Entry, NameError};

use super::check::{Finding, Report, report};
use super::gc::{reached, roots};
use crate::answer::Answer;
use crate::graph::reach;
use crate::medium::Medium;
use crate::open::Opened;
use crate::paths::{join, names_id};
use crate::status::{Failure, Status, is_damage, is_refusal, missing};

/// Where objects without names go.
pub const LOST: &str = "lost+found";

/// Arguments of `repair`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
    /// Also give up what can't be read: delete such objects, make damaged names anew
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Repaired {
    clean: bool,
    done: Vec<String>,
    findings: Vec<Finding>,
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.done.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "remains: {finding}"))?;
        match (self.clean, self.done.is_empty()) {
            (true, true) => writeln!(f, "clean; there was nothing to do"),
            (true, false) => writeln!(f, "clean"),
            (false, _) => {
                writeln!(f, "not clean: restore what remains from a backup, or give it up with --force")
            }
        }
    }
}

/// `repair`.
///
/// # Errors
/// The names are damaged, and that was not to be forced; no room.
pub fn run<M: Medium>(store: &Opened<M>, arguments: &Arguments) -> Result<Answer, Failure> {
    let mut done = store.survey.mended.clone();
    match mend(store, arguments, &mut done) {
        Ok(left) => {
            let status = if left.clean { Status::Done } else { Status::Found };
            let Report { clean, findings, .. } = left;
            Ok(Answer::of(&Repaired { clean, done, findings }).with(status))
        }
        Err(failure) if done.is_empty() => Err(failure),
        Err(failure) => {
            let what = format!("{}\nbefore that, this was done:\n  {}", failure.what, done.join("\n  "));
            Err(Failure { what, ..failure })
        }
    }
}

/// Mends, and notes what was `done`, also where it fails later. Gives what is left.
fn mend<M: Medium>(
    store: &Opened<M>,
    arguments: &Arguments,
    done: &mut Vec<String>,
) -> Result<Report, Failure> {
    if let Err(failure) = store.walk("") {
        // What the host refuses, or a later version made, is not damaged.
        damage(store.medium(), names_id())?;
        let is_newer = |stat: ObjectStat| Error::from_number(stat.quarantine) == Some(Error::NotSupported);
        if failure.status != Status::Damaged || store.medium().stat(names_id()).is_ok_and(is_newer) {
            return Err(failure);
        }
        if !arguments.force {
            return Err(failure.advise(
                "the names can't be read; --force makes them anew, and names all objects in lost+found",
            ));
        }
        store.space.unmap(names_id());
        store.medium().delete(names_id()).or_else(missing).map_err(Failure::of("the names"))?;
        done.push("the names could not be read: made anew".to_owned());
    }
    if arguments.force {
        give_up(store, done)?;
    }
    remove_stale(store, done)?;
    name_lost(store, done)?;
    report(store)
}

/// What is damaged in an object, if something is.
///
/// # Errors
/// It can't be told, because the host refuses.
fn damage<M: Medium>(medium: &M, id: ObjId) -> Result<Option<Error>, Failure> {
    let looked = medium.stat(id).and_then(|stat| {
        Error::from_number(stat.quarantine).map_or(Ok(()), Err)?;
        medium.extents(id).map(drop)
    });
    match looked {
        Err(error) if is_damage(error) => Ok(Some(error)),
        Err(error) if is_refusal(error) => Err(Failure::of(id)(error)),
        _ => Ok(None),
    }
}

/// Deletes objects that are damaged. None, where the host refuses to show one.
fn give_up<M: Medium>(store: &Opened<M>, done: &mut Vec<String>) -> Result<(), Failure> {
    let mut damaged = Vec::new();
    for id in store.medium().ids()? {
        damaged.extend(damage(store.medium(), id)?.map(|error| (id, error)));
    }
    for (id, error) in damaged {
        store.medium().delete(id).or_else(missing).map_err(Failure::of(id))?;
        done.push(format!("object {id} could not be read ({error}): deleted"));
    }
    Ok(())
}

/// Removes names that lead nowhere.
fn remove_stale<M: Medium>(store: &Opened<M>, done: &mut Vec<String>) -> Result<(), Failure> {
    let all: BTreeSet<ObjId> = store.medium().ids()?.into_iter().collect();
    let guard = store.space.enter();
    let names = store.names(&guard)?;
    for named in store.walk("")? {
        if let Entry::Object(id) = named.entry
            && !all.contains(&id)
        {
            guard.transact(|tx| names.unbind(tx, &named.path)).map_err(Failure::of(&named.path))?;
            done.push(format!("name {} led to {id}, which does not exist: removed", named.path));
        }
    }
    Ok(())
}

/// Names objects that nothing leads to.
fn name_lost<M: Medium>(store: &Opened<M>, done: &mut Vec<String>) -> Result<(), Failure> {
    let from = roots(store)?;
    let reached = reached(store, &from);
    let lost: Vec<ObjId> = from.all.iter().copied().filter(|id| !reached.objects.contains(id)).collect();
    for id in heads(store, &from.all, &lost) {
        let guard = store.space.enter();
        let names = store.names(&guard)?;
        // Beside an object that is called so.
        let others = (1..).map(|number| format!("{LOST}.{number}"));
        let directory = std::iter::once(LOST.to_owned())
            .chain(others)
            .find(|name| !matches!(names.lookup(name), Ok(Entry::Object(_))))
            .expect("objects are fewer than numbers");
        let name = join(&directory, &id.to_string());
        guard
            .transact(|tx| {
                match names.make_directory(tx, &directory) {
                    Ok(()) | Err(NameError::Exists) => {}
                    Err(error) => return Err(error),
                }
                names.bind(tx, &name, id)
            })
            .map_err(Failure::of(&name))?;
        done.push(format!("object {id} had no name: named {name}"));
    }
    Ok(())
}

/// Of `lost` objects, as few as lead to all others.
fn heads<M: Medium>(store: &Opened<M>, all: &[ObjId], lost: &[ObjId]) -> Vec<ObjId> {
    let below = |id: ObjId| reach(store.medium(), all, [id], &ProgressBar::hidden()).objects;
    let mut heads: Vec<(ObjId, HashSet<ObjId>)> = Vec::new();
    for &id in lost {
        if heads.iter().any(|(_, below)| below.contains(&id)) {
            continue;
        }
        let below = below(id);
        heads.retain(|(head, _)| !below.contains(head));
        heads.push((id, below));
    }
    heads.into_iter().map(|(id, _)| id).collect()
}
