//! What each frame is, kept beside the code under test, and what was found to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use twizzler_store::{FrameKind, FrameNo};

/// A page of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PageOf {
    pub(super) object: usize,
    pub(super) page: u64,
}

/// The truth about frames.
#[derive(Default)]
pub(super) struct Ledger {
    kinds: BTreeMap<FrameNo, FrameKind>,
    owners: BTreeMap<FrameNo, PageOf>,
    /// Entries that stopped being present, and that CPUs were not yet made to forget.
    broken: BTreeSet<u64>,
    violations: Vec<String>,
}

impl Ledger {
    pub(super) fn violation(&mut self, what: String) {
        // The first tells the story; a run that went wrong finds many more.
        if self.violations.len() < 8 {
            self.violations.push(what);
        }
    }

    pub(super) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(super) fn allocated(&mut self, frame: FrameNo, kind: FrameKind) {
        if let Some(old) = self.kinds.insert(frame, kind) {
            self.violation(format!("{frame:?} was handed out while in use as {old:?}"));
        }
    }

    pub(super) fn freed(&mut self, frame: FrameNo, kind: FrameKind) {
        self.owners.remove(&frame);
        let was = self.kinds.remove(&frame);
        if was != Some(kind) {
            self.violation(format!("{frame:?} was freed as {kind:?} and was {was:?}"));
        }
    }

    pub(super) fn kind(&self, frame: FrameNo) -> Option<FrameKind> {
        self.kinds.get(&frame).copied()
    }

    pub(super) fn in_use(&self) -> usize {
        self.kinds.len()
    }

    /// An access to a page got as far as this frame.
    pub(super) fn reached(&mut self, frame: FrameNo, by: PageOf) {
        match self.kinds.get(&frame) {
            Some(FrameKind::Data) => {}
            Some(FrameKind::Table) => self.violation(format!("{by:?} reached {frame:?}, which is a table")),
            None => self.violation(format!("{by:?} reached {frame:?}, which is free")),
        }
        match self.owners.get(&frame) {
            Some(owner) if *owner != by => {
                let owner = *owner;
                self.violation(format!("{by:?} reached {frame:?}, which belongs to {owner:?}"));
            }
            _ => {
                self.owners.insert(frame, by);
            }
        }
    }

    /// The entry at an offset stopped being present.
    pub(super) fn broke(&mut self, at: u64) {
        self.broken.insert(at);
    }

    /// The entry at an offset became present.
    pub(super) fn made(&mut self, at: u64) {
        if self.broken.contains(&at) {
            self.violation(format!("the entry at {at:#x} was made again before CPUs forgot what it was"));
        }
    }

    /// CPUs forgot.
    pub(super) fn forgotten(&mut self) {
        self.broken.clear();
    }
}
