//! `check`: looks for damage, and changes nothing.
//!
//! An image is looked at as it lies there, with the store's own survey. Then every object of the store, as recovery would leave
//! it: metadata, header, FOT, and whether its pointers lead anywhere; and the tree of names. It can't detect data that was changed in
//! place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header, Metadata};
use twizzler_abi::pointer::FotKind;
use twizzler_abi::{Error, ObjId};
use twizzler_names::Entry;
use twizzler_object::{Access, HeapFinding, check_heap};

use crate::answer::Answer;
use crate::medium::Medium;
use crate::object::{class_of, fot, header, metadata};
use crate::open::{For, Lock, Opened, open_image};
use crate::paths::Named;
use crate::progress;
use crate::status::{Failure, Status, is_refusal};

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
}

/// What is wrong, by what can be done about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The store's own structures.
    Store,
    /// An object can't be read, or not all of it.
    Object,
    /// An object's header makes no sense.
    Header,
    /// What its allocator knows makes no sense, or is lost.
    Heap,
    /// A pointer's table entry makes no sense, or leads nowhere.
    Pointer,
    /// A name leads nowhere.
    Name,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// The object.
    pub object: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.object, &self.name) {
            (Some(object), Some(name)) => write!(f, "object {object} ({name}): {}", self.what),
            (Some(object), None) => write!(f, "object {object}: {}", self.what),
            (None, Some(name)) => write!(f, "name {name}: {}", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

/// What `check` found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub clean: bool,
    /// Objects.
    pub objects: u64,
    /// Names.
    pub names: u64,
    /// What else there is to say.
    pub notes: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Pointers to objects that do not exist. Whoever deletes an object that others lead to leaves such ones, so that is no damage; but where nobody
    /// did, the object is lost.
    pub dangling: Vec<Finding>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().chain(&self.dangling).try_for_each(|finding| writeln!(f, "{finding}"))?;
        write!(f, "{} objects, {} names", self.objects, self.names)?;
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))?;
        if !self.dangling.is_empty() {
            let count = self.dangling.len();
            write!(f, "; {count} pointers lead to objects that were deleted, or are lost")?;
        }
        writeln!(
            f,
            "\n{}",
            if self.clean { "clean" } else { "not clean: `twz repair` mends what can be mended" }
        )
    }
}

/// `check`.
///
/// # Errors
/// The objects can't even be listed.
pub fn run<M: Medium>(store: &Opened<M>) -> Result<Answer, Failure> {
    let report = report(store)?;
    let status = if report.clean { Status::Done } else { Status::Found };
    Ok(Answer::of(&report).with(status))
}

/// What is to be said of the store in an image file.
///
/// # Errors
/// As [`run`], and as [`open_image`].
pub fn image(path: &Path, lock: Lock) -> Result<Report, Failure> {
    let store = open_image(path, For::Checking, lock)?;
    let report = report(&store)?;
    store.close()?;
    Ok(report)
}

/// What is to be said of a store.
///
/// # Errors
/// As [`run`].
pub fn report<M: Medium>(store: &Opened<M>) -> Result<Report, Failure> {
    let ids = store.medium().ids()?;
    let mut check =
        Check { store, ids: &ids, named: BTreeMap::new(), findings: Vec::new(), dangling: Vec::new() };
    let names = check.names()?;
    let bar = progress::of_steps(ids.len() as u64, "Checking objects");
    for &id in &ids {
        check.object(id)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut findings = store.survey.findings.clone();
    // What the survey says of an object, it says better.
    let said: Vec<&Option<String>> = store.survey.findings.iter().map(|finding| &finding.object).collect();
    findings.extend(
        check
            .findings
            .into_iter()
            .filter(|finding| finding.kind != Kind::Object || !said.contains(&&finding.object)),
    );
    Ok(Report {
        clean: findings.is_empty(),
        objects: ids.len() as u64,
        names,
        notes: store.survey.notes.clone(),
        dangling: check.dangling,
        findings,
    })
}

struct Check<'a, M: Medium> {
    store: &'a Opened<M>,
    ids: &'a [ObjId],
    named: BTreeMap<ObjId, String>,
    findings: Vec<Finding>,
    dangling: Vec<Finding>,
}

impl<M: Medium> Check<'_, M> {
    fn exists(&self, id: ObjId) -> bool {
        let is_gone = || self.store.medium().stat(id).is_err_and(|error| error == Error::NoSuchObject);
        self.ids.binary_search(&id).is_ok() || M::SHARED && !is_gone()
    }

    /// Whether a name leads nowhere; not, if others removed it meanwhile.
    fn leads_nowhere(&self, path: &str, id: ObjId) -> Result<bool, Failure> {
        if self.exists(id) || !M::SHARED {
            return Ok(!self.exists(id));
        }
        let guard = self.store.space.enter();
        let names = self.store.names(&guard)?;
        let _locked = names.lock()?;
        Ok(names.lookup_by(&&guard, path) == Ok(Entry::Object(id)) && !self.exists(id))
    }

    fn add(&mut self, kind: Kind, id: ObjId, what: impl Into<String>) {
        let name = self.named.get(&id).cloned();
        self.findings.push(Finding { kind, object: Some(id.to_string()), name, what: what.into() });
    }

    /// A part of an object can't be read: what is damaged is a finding, what the host refuses says nothing, and ends the command.
    fn unreadable(&mut self, id: ObjId, part: &str, error: Error) -> Result<(), Failure> {
        if is_refusal(error) {
            return Err(Failure::of(id)(error));
        }
        if M::SHARED && error == Error::NoSuchObject {
            // It was listed, and others have deleted it since.
            return Ok(());
        }
        self.add(Kind::Object, id, format!("its {part}: {error}"));
        Ok(())
    }

    /// Checks all names. Gives their number.
    fn names(&mut self) -> Result<u64, Failure> {
        let all = match self.store.walk("") {
            Ok(all) => all,
            Err(failure) if failure.status != Status::Damaged => return Err(failure),
            Err(failure) => {
                self.findings.push(Finding {
                    kind: Kind::Store,
                    object: None,
                    name: None,
                    what: failure.what,
                });
                return Ok(0);
            }
        };
        for Named { path, entry } in &all {
            if let Entry::Object(id) = *entry {
                self.named.entry(id).or_insert_with(|| path.clone());
                if self.leads_nowhere(path, id)? {
                    let what = format!("its object {id} does not exist");
                    let name = Some(path.clone());
                    self.findings.push(Finding { kind: Kind::Name, object: None, name, what });
                }
            }
        }
        Ok(all.len() as u64)
    }

    fn object(&mut self, id: ObjId) -> Result<(), Failure> {
        let (findings, dangling) = (self.findings.len(), self.dangling.len());
        self.look_at(id)?;
        if !M::SHARED || (findings, dangling) == (self.findings.len(), self.dangling.len()) {
            return Ok(());
        }
        // Somebody may have been changing it: once more, while nobody can. What can't even be opened is as it was found.
        let guard = self.store.space.enter();
        match guard.open_any(id, Access::Read) {
            Err(Error::NoSuchObject) => {}
            Err(_) => return Ok(()),
            Ok(area) => {
                let _locked = guard.lock(area).map_err(Failure::of(id))?;
                self.findings.truncate(findings);
                self.dangling.truncate(dangling);
                return self.look_at(id);
            }
        }
        self.findings.truncate(findings);
        self.dangling.truncate(dangling);
        Ok(())
    }

    fn look_at(&mut self, id: ObjId) -> Result<(), Failure> {
        let medium = self.store.medium();
        let known = medium.stat(id).and_then(|stat| match Error::from_number(stat.quarantine) {
            Some(error) => Err(error),
            None => metadata(medium, id)?.verify(id),
        });
        let range_bytes = match known.and_then(|_| class_of(medium, id)) {
            Ok(class) => class.range_bytes(),
            Err(error) => return self.unreadable(id, "metadata or tree", error),
        };
        if let Err(error) = medium.extents(id) {
            return self.unreadable(id, "pages", error);
        }
        match header(medium, id) {
            Err(error) => self.unreadable(id, "header", error),
            Ok(header) => {
                if header.len_bytes > range_bytes - BASE_OFFSET {
                    self.add(
                        Kind::Header,
                        id,
                        format!("its length of {} bytes is out of range", header.len_bytes),
                    );
                }
                self.heap(id)?;
                if !header.fot_companion.is_none() && !self.exists(header.fot_companion) {
                    let what = format!("its companion {} does not exist", header.fot_companion);
                    self.add(Kind::Pointer, id, what);
                }
                self.pointers(id, &header, range_bytes)
            }
        }
    }

    fn heap(&mut self, id: ObjId) -> Result<(), Failure> {
        match check_heap(|offset, buffer| self.store.medium().read_raw(id, offset, buffer)) {
            Err(error) => return self.unreadable(id, "heap", error),
            Ok(report) => {
                for HeapFinding { offset, what } in report.findings {
                    self.add(Kind::Heap, id, format!("its heap, at {offset:#x}: {what}"));
                }
            }
        }
        Ok(())
    }

    fn pointers(&mut self, id: ObjId, header: &Header, range_bytes: u64) -> Result<(), Failure> {
        let entries = match fot(self.store.medium(), id, header) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(id, "FOT", error),
        };
        for (index, entry) in entries.iter().enumerate().skip(1) {
            let what = match entry.decode() {
                Err(error) => Some(error.to_string()),
                Ok((FotKind::Free, _)) => None,
                Ok((FotKind::Id, _)) => self.target(id, index, entry.target, entry.fingerprint),
                Ok((FotKind::Name, _)) => {
                    let (at, len) = (entry.target.hi, entry.target.lo);
                    let end = at.checked_add(len).filter(|&end| end <= range_bytes && at >= HEADER_OFFSET);
                    end.is_none().then(|| "its late-bound name is out of range".to_owned())
                }
            };
            if let Some(what) = what {
                self.add(Kind::Pointer, id, format!("FOT entry {index}: {what}"));
            }
        }
        Ok(())
    }

    /// What is wrong with a pointer's target.
    fn target(&mut self, id: ObjId, index: usize, target: ObjId, fingerprint: u64) -> Option<String> {
        if !self.exists(target) {
            self.dangling.push(Finding {
                kind: Kind::Pointer,
                object: Some(id.to_string()),
                name: self.named.get(&id).cloned(),
                what: format!("FOT entry {index} leads to {target}, which does not exist"),
            });
            return None;
        }
        let found =
            metadata(self.store.medium(), target).as_ref().map_or(0, |found: &Metadata| found.fingerprint);
        (fingerprint != 0 && found != fingerprint)
            .then(|| format!("leads to {target}, which is of another type"))
    }
}
