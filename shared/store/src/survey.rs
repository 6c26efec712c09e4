//! The survey of a region: everything that the object table and the trees refer to, checked entry by entry before it
//! counts as used. Mount and `check` share it; mount also lets it finish what a power cut interrupted.
//!
//! What fails its checks is left out and reported, and takes nothing else along. A frame that two objects claim puts both
//! in quarantine: which of them is right can't be told.

use alloc::vec::Vec;

use twizzler_abi::ObjId;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_pmem::Persist;

use crate::entry::{self, Generation, Level};
use crate::error::Error;
use crate::frames::{FrameKind, FrameNo, Frames, HUGE_FRAMES, Need, OutOfFrames};
use crate::nvm::Uses;
use crate::superblock::COPY_FRAMES;
use crate::table::bucket::{self, ENTRIES, Record, Slot};
use crate::table::directory::Directory;
pub(crate) use crate::table::directory::Mode;
use crate::table::word::CommitWord;
use crate::table::{Table, leads};
use crate::tree::Root;
use crate::tree::walk::{Visit, walk};

/// An object that is kept apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quarantined {
    /// Its ID, as its entry claims.
    pub id: ObjId,
    /// [`Error::Damaged`] or [`Error::Unreadable`].
    pub why: Error,
    /// First page that is concerned; None: the entry in the object table, or the metadata.
    pub page: Option<u64>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) uses: Uses,
    pub(crate) objects: u64,
    pub(crate) quarantine: Vec<Quarantined>,
    pub(crate) directory: Directory,
    /// Entries that were valid and not present.
    pub(crate) pending: u64,
    pub(crate) pages: u64,
    pub(crate) tables: u64,
    conflicts: Vec<u64>,
}

/// A region before it has an allocator.
#[derive(Debug)]
pub(crate) struct Region<'a, P> {
    pub(crate) media: &'a P,
    pub(crate) first: FrameNo,
    pub(crate) generation: Generation,
}

impl<P: Persist> Frames for Region<'_, P> {
    type Media = P;
    fn media(&self) -> &P {
        self.media
    }
    fn first(&self) -> FrameNo {
        self.first
    }
    fn generation(&self) -> Generation {
        self.generation
    }
    fn allocate(&self, _kind: FrameKind, _need: Need) -> Result<FrameNo, OutOfFrames> {
        Err(OutOfFrames)
    }
    fn allocate_huge(&self, _need: Need) -> Result<FrameNo, OutOfFrames> {
        Err(OutOfFrames)
    }
    fn free(&self, _frame: FrameNo, _kind: FrameKind) {}
}

/// Surveys a region of `frames` frames.
pub(crate) fn survey<P: Persist>(
    region: &Region<'_, P>,
    table: &Table<'_, P>,
    frames: u64,
    mode: Mode,
) -> Result<Survey, Error> {
    let mut uses = Uses::new(frames)?;
    // First what is the store's own, so that no object can claim it.
    for frame in COPY_FRAMES {
        uses.mark(frame, FrameKind::Table);
    }
    let directory = Directory::read(table, &mut uses, mode)?;
    let mut survey = Survey {
        uses,
        objects: 0,
        quarantine: Vec::new(),
        directory: Directory::default(),
        pending: 0,
        pages: 0,
        tables: 0,
        conflicts: Vec::new(),
    };
    each_entry(table, &directory, &mut |slot, record, stale| match stale {
        true if mode == Mode::Recover => {
            table.free_copy(slot);
            Ok(())
        }
        true => Ok(()),
        false => survey.object(region, record, mode),
    })?;
    survey.conflicts(region, table, &directory)?;
    survey.directory = directory;
    Ok(survey)
}

/// Calls for every entry in use: where it lies, what it says, and whether it is a copy that counts no longer.
pub(crate) fn each_entry<P: Persist>(
    table: &Table<'_, P>,
    directory: &Directory,
    call: &mut impl FnMut(Slot, Record, bool) -> Result<(), Error>,
) -> Result<(), Error> {
    for bucket in &directory.buckets {
        for number in 0..ENTRIES {
            let slot = bucket::slot(bucket.frame, number);
            let record = bucket::read(table.media, slot);
            let stale = matches!(record, Record::Live(id, _) if !leads(id, bucket.prefix, bucket.bits));
            if record != Record::Free {
                call(slot, record, stale)?;
            }
        }
    }
    Ok(())
}

impl Survey {
    /// Marks what an entry's object uses.
    fn object<P: Persist>(
        &mut self,
        region: &Region<'_, P>,
        record: Record,
        mode: Mode,
    ) -> Result<(), Error> {
        let (id, word) = match record {
            Record::Free => return Ok(()),
            Record::Unreadable => return self.keep_apart(ObjId::NONE, Error::Unreadable, None),
            Record::Live(id, word) => (id, Some(word)),
            Record::Bad(id, word) => {
                self.keep_apart(id, Error::Damaged, None)?;
                (id, word)
            }
        };
        self.objects += 1;
        let Some(word) = word else { return Ok(()) };
        let mut mark = Mark { survey: self, region, mode, failed: None };
        walk(region, root_of(region, word), &mut mark);
        let failed = mark.failed;
        if let (Some((page, why)), Record::Live(..)) = (failed, record) {
            self.keep_apart(id, why, Some(page))?;
        }
        Ok(())
    }

    fn keep_apart(&mut self, id: ObjId, why: Error, page: Option<u64>) -> Result<(), Error> {
        self.quarantine.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        self.quarantine.push(Quarantined { id, why, page });
        Ok(())
    }

    /// Puts every object that uses a frame twice claimed in quarantine.
    fn conflicts<P: Persist>(
        &mut self,
        region: &Region<'_, P>,
        table: &Table<'_, P>,
        directory: &Directory,
    ) -> Result<(), Error> {
        if self.conflicts.is_empty() {
            return Ok(());
        }
        self.conflicts.sort_unstable();
        let conflicts = core::mem::take(&mut self.conflicts);
        each_entry(table, directory, &mut |_, record, stale| {
            let Record::Live(id, word) = record else { return Ok(()) };
            let mut search = Search { first: region.first, frames: &conflicts, found: None };
            if !stale && !self.quarantine.iter().any(|other| other.id == id) {
                walk(region, root_of(region, word), &mut search);
                if let Some(page) = search.found {
                    self.keep_apart(id, Error::Damaged, Some(page))?;
                }
            }
            Ok(())
        })
    }
}

/// The root that a commit word names.
pub(crate) fn root_of<F: Frames>(frames: &F, word: CommitWord) -> Root {
    Root::new(FrameNo(frames.first().0 + word.frame), word.level).bounded(word.bound)
}

/// Marks an object's frames.
struct Mark<'a, 'r, P> {
    survey: &'a mut Survey,
    region: &'a Region<'r, P>,
    mode: Mode,
    failed: Option<(u64, Error)>,
}

impl<P: Persist> Mark<'_, '_, P> {
    fn mark(&mut self, frame: FrameNo, kind: FrameKind, page: u64) -> bool {
        // The walk has checked that the frame lies in the region.
        let index = frame.0 - self.region.first.0;
        let marked = self.survey.uses.mark(index, kind);
        if !marked {
            self.bad(page, Error::Damaged);
            if self.survey.conflicts.try_reserve(1).is_ok() {
                self.survey.conflicts.push(index);
            }
        }
        marked
    }
}

impl<P: Persist> Visit for Mark<'_, '_, P> {
    fn table(&mut self, frame: FrameNo, _level: Level) -> bool {
        self.survey.tables += 1;
        self.mark(frame, FrameKind::Table, 0)
    }

    fn leaf(&mut self, frame: FrameNo, page: u64, pages: u64) {
        self.survey.pages += pages;
        if pages == HUGE_FRAMES && self.survey.uses.mark_group(frame.0 - self.region.first.0) {
            return;
        }
        for i in 0..pages {
            if !self.mark(FrameNo(frame.0 + i), FrameKind::Data, page + i) {
                return;
            }
        }
    }

    fn pending(&mut self, at: u64, word: u64) {
        self.survey.pending += 1;
        if self.mode == Mode::Recover {
            self.region.media.store(at, entry::made_present(word));
            self.region.media.flush(at, 8);
        }
    }

    fn bad(&mut self, page: u64, error: Error) {
        self.failed = self.failed.or(Some((page, error)));
    }
}

/// Looks for frames that were claimed twice.
struct Search<'a> {
    first: FrameNo,
    frames: &'a [u64],
    found: Option<u64>,
}

impl Search<'_> {
    fn look(&mut self, frame: FrameNo, page: u64, len: u64) {
        let index = frame.0 - self.first.0;
        let next = self.frames.partition_point(|&conflict| conflict < index);
        if self.frames.get(next).is_some_and(|&conflict| conflict < index + len) {
            self.found = self.found.or(Some(page));
        }
    }
}

impl Visit for Search<'_> {
    fn table(&mut self, frame: FrameNo, _level: Level) -> bool {
        self.look(frame, 0, 1);
        true
    }

    fn leaf(&mut self, frame: FrameNo, page: u64, pages: u64) {
        self.look(frame, page, pages);
    }

    fn bad(&mut self, _page: u64, _error: Error) {}
}

/// Bytes of a region of `frames` frames.
pub(crate) const fn bytes_of(frames: u64) -> u64 {
    frames * PAGE_BYTES
}
