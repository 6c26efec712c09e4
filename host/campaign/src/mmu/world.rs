//! Objects with their trees, mapped in several contexts as the kernel maps them, and the operations on them.

use std::ops::Range;

use twizzler_abi::ObjId;
use twizzler_abi::Rights;
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::Metadata;
use twizzler_abi::rights::ObjectFlags;
use twizzler_crashsim::{Rng, SimMemory};
use twizzler_mmumodel::entry::{ACCESSED, Access, DIRTY, LARGE, PRESENT, USER, WRITE, index};
use twizzler_mmumodel::{Fault, Machine, Pcid, Physical, Region};
use twizzler_pmem::Persist;
use twizzler_store::entry::Level;
use twizzler_store::tree::{Batch, Invalidate, Stale};
use twizzler_store::{Error, FrameNo, Frames, Root, Tree};

use super::cpus::{Cpus, Flaw, Mapped};
use super::frames::ModelFrames;
use super::ledger::PageOf;
use super::racing::Racing;

const DRAM: FrameNo = FrameNo(0x100);
const NVM: FrameNo = FrameNo(0x4_0000);
const NVM_FRAMES: u64 = 2048;
/// A 2 MiB page that is no object's.
const DRAM_HUGE: u64 = 0;
const CPUS: usize = 3;
const CONTEXTS: u64 = 3;
const OBJECTS: usize = 3;
/// First slot that objects are mapped at.
const SLOT: u64 = 512;
const SLOT_BYTES: u64 = 1 << 30;
const UPPER: u64 = PRESENT | WRITE | USER | ACCESSED;

/// Memory of one world, to be made before it.
pub(super) struct Memories {
    dram: SimMemory,
    nvm: SimMemory,
}

impl Memories {
    pub(super) fn new() -> Self {
        // Each context: PML4, PDPT; each object: a page directory for while its tree is a page table.
        let dram_frames = 2 * CONTEXTS + OBJECTS as u64;
        Self { dram: SimMemory::zeroed(dram_frames * 4096), nvm: SimMemory::zeroed(NVM_FRAMES * 4096) }
    }

    pub(super) fn cpus(&self, rng: Rng, flaw: Flaw) -> Cpus<'_> {
        let physical = Physical::new(vec![
            Region { base: DRAM.physical(), memory: &self.dram },
            Region { base: NVM.physical(), memory: &self.nvm },
        ]);
        let roots: Vec<(Pcid, u64)> = (0..CONTEXTS).map(|n| (n as Pcid + 1, pml4(n).physical())).collect();
        for context in 0..CONTEXTS {
            let at = 8 * index(SLOT * SLOT_BYTES, 4);
            self.store(pml4(context), at, UPPER | pdpt(context).physical());
        }
        Cpus::new(Machine::new(physical, CPUS, roots), rng, flaw)
    }

    fn store(&self, table: FrameNo, at: u64, entry: u64) {
        self.dram.store((table.0 - DRAM.0) * 4096 + at, entry);
    }
}

fn pml4(context: u64) -> FrameNo {
    FrameNo(DRAM.0 + 2 * context)
}

fn pdpt(context: u64) -> FrameNo {
    FrameNo(DRAM.0 + 2 * context + 1)
}

fn volatile_directory(object: usize) -> FrameNo {
    FrameNo(DRAM.0 + 2 * CONTEXTS + object as u64)
}

/// The objects under test.
pub(super) struct World<'m> {
    memories: &'m Memories,
    cpus: &'m Cpus<'m>,
    frames: ModelFrames<'m>,
    roots: Vec<Option<Root>>,
    created: u64,
    /// Before one operation in so many, CPUs cache what they can.
    warm_one_in: u64,
    rng: Rng,
}

/// The hook that tree operations call.
struct Shooter<'w> {
    cpus: &'w Cpus<'w>,
    object: usize,
}

impl Invalidate for Shooter<'_> {
    fn invalidate(&mut self, pages: Range<u64>, stale: Stale) {
        self.cpus.shoot(self.object, pages, stale);
    }
}

impl<'m> World<'m> {
    pub(super) fn new(memories: &'m Memories, cpus: &'m Cpus<'m>, warm_one_in: u64, rng: Rng) -> Self {
        let racing = Racing::new(&memories.nvm, NVM, cpus);
        let frames = ModelFrames::new(racing, NVM, cpus);
        let mut world =
            Self { memories, cpus, frames, roots: vec![None; OBJECTS], created: 0, warm_one_in, rng };
        (0..OBJECTS).for_each(|object| world.create(object));
        world
    }

    /// One operation, chosen at random. Tells which.
    pub(super) fn step(&mut self) -> String {
        let object = self.rng.index(OBJECTS);
        let page = super::random_page(&mut self.rng);
        let pages = page.max(2)..page.max(2) + 1 + self.rng.below(24);
        if self.rng.one_in(self.warm_one_in) {
            self.warm(object, &pages);
        }
        let text = match self.rng.below(20) {
            0..8 => self.touch(object, page),
            8..10 => format!(
                "populate {pages:?}: {:?}",
                self.grown(object, pages.end - 1, |tree| tree.populate(pages.clone()))
            ),
            10..14 => {
                let mut shooter = Shooter { cpus: self.cpus, object };
                format!("discard {pages:?}: {:?}", self.tree(object).discard(pages.clone(), &mut shooter))
            }
            14 => {
                let mut shooter = Shooter { cpus: self.cpus, object };
                format!("truncate {page}: {:?}", self.tree(object).truncate(page.max(2), &mut shooter))
            }
            15 => {
                let mut shooter = Shooter { cpus: self.cpus, object };
                format!("forbid {pages:?}: {:?}", self.tree(object).forbid(pages.clone(), &mut shooter))
            }
            16 => {
                let fingerprint = self.rng.next_u64();
                let mut shooter = Shooter { cpus: self.cpus, object };
                let metadata = metadata(self.created, fingerprint);
                format!("set metadata: {:?}", self.tree(object).set_metadata(&metadata, &mut shooter))
            }
            17 => {
                let block = (1 + self.rng.below(2)) * 512;
                let pages = block..block + 512;
                format!(
                    "populate {pages:?}: {:?}",
                    self.grown(object, block, |tree| tree.populate(pages.clone()))
                )
            }
            18 => format!("raise to {page}: {:?}", self.raise(object, page)),
            _ => {
                self.delete(object);
                self.create(object);
                "delete and create".into()
            }
        };
        if self.cpus.flaw == Flaw::ChangesPresent {
            self.change_present(object);
        }
        self.cpus.operation_ended();
        format!("object {object}: {text}")
    }

    /// What no operation may do: the metadata's leaf names another frame, with no time in which it is not present.
    fn change_present(&self, object: usize) {
        let root = self.tree(object).root();
        if root.level() == Level::One {
            let at = self.frames.offset(root.frame(), 1).expect("a table of this memory") + 8;
            let word = self.frames.media().load(at);
            self.frames.media().store(at, word ^ 1 << 12);
            self.frames.media().store(at, word);
        }
    }

    /// The end of all objects: nothing may be left in use.
    pub(super) fn finish(mut self) {
        for object in 0..OBJECTS {
            self.warm(object, &(0..1));
            self.delete(object);
        }
        self.cpus.operation_ended();
        let left = self.cpus.ledger.borrow().in_use();
        if left != 0 {
            self.cpus.ledger.borrow_mut().violation(format!("{left} frames were never freed"));
        }
    }

    /// Every CPU looks at the object's pages, so that whatever is unlinked now is cached somewhere.
    fn warm(&self, object: usize, pages: &Range<u64>) {
        let more = (1..32).chain(500..520).chain([1024, 1025, 1026, 1027, 1536, 1537, 1538, 1539]);
        self.cpus.warm(pages.clone().chain(more).map(|page| PageOf { object, page }));
    }

    /// An access by some CPU, with the fault served as the kernel does.
    fn touch(&mut self, object: usize, page: u64) -> String {
        let cpu = self.rng.index(CPUS);
        let access = if self.rng.one_in(2) { Access::Write } else { Access::Read };
        let batch = if self.rng.one_in(2) { Batch::Line } else { Batch::Page };
        let mut outcome = self.cpus.access(cpu, PageOf { object, page }, access);
        if let Err(Fault::NotPresent { level: ..=2 }) = outcome {
            let filled = self.grown(object, page, |tree| tree.fill(page, batch));
            outcome = self.cpus.access(cpu, PageOf { object, page }, access);
            let read_only = page == 1 && access == Access::Write;
            if filled.is_ok() && outcome.is_err() && !read_only {
                let text = format!("page {page} of object {object} was filled and still faults: {outcome:?}");
                self.cpus.ledger.borrow_mut().violation(text);
            }
        }
        format!("touch {page} {access:?} by {cpu}: {outcome:?}")
    }

    /// An operation, with the tree raised first where it has to be.
    fn grown<R>(
        &mut self,
        object: usize,
        page: u64,
        work: impl Fn(&Tree<'_, ModelFrames<'m>>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        match work(&self.tree(object)) {
            Err(Error::Beyond) => {
                self.raise(object, page)?;
                work(&self.tree(object))
            }
            result => result,
        }
    }

    fn raise(&mut self, object: usize, page: u64) -> Result<(), Error> {
        let old = self.tree(object).root();
        let new = self.tree(object).raise(page)?;
        if old.level() != new.level() {
            self.unlink(object);
            self.cpus.shoot(object, 0..old.level().table_pages(), Stale::Tables);
            // The page directory that was in between is used for something else: the worst that it could hold.
            for entry in 0..512 {
                self.memories.store(volatile_directory(object), 8 * entry, UPPER | DIRTY | LARGE | DRAM_HUGE);
            }
        }
        self.roots[object] = Some(new);
        self.link(object);
        Ok(())
    }

    fn create(&mut self, object: usize) {
        self.created += 1;
        let tree = Tree::create(&self.frames, &metadata(self.created, 0)).expect("frames for a new object");
        self.frames.media().fence();
        self.roots[object] = Some(tree.root());
        let pcids = (1..=CONTEXTS as Pcid).collect();
        let base = (SLOT + object as u64) * SLOT_BYTES;
        self.cpus.mapped.borrow_mut().retain(|mapped| mapped.object != object);
        self.cpus.mapped.borrow_mut().push(Mapped { object, base, pcids });
        self.link(object);
    }

    fn delete(&mut self, object: usize) {
        let tree = self.tree(object);
        self.unlink(object);
        tree.destroy(&mut Shooter { cpus: self.cpus, object });
        self.roots[object] = None;
        self.cpus.mapped.borrow_mut().retain(|mapped| mapped.object != object);
    }

    /// Puts the object's tree into the upper tables of every context.
    fn link(&self, object: usize) {
        let root = self.tree(object).root();
        let target = match root.level() {
            Level::One => {
                let directory = volatile_directory(object);
                (1..512).for_each(|entry| self.memories.store(directory, 8 * entry, 0));
                self.memories.store(directory, 0, UPPER | root.frame().physical());
                directory
            }
            Level::Two | Level::Three => root.frame(),
        };
        for context in 0..CONTEXTS {
            self.memories.store(pdpt(context), 8 * object as u64, UPPER | target.physical());
        }
    }

    fn unlink(&self, object: usize) {
        (0..CONTEXTS).for_each(|context| self.memories.store(pdpt(context), 8 * object as u64, 0));
    }

    fn tree(&self, object: usize) -> Tree<'_, ModelFrames<'m>> {
        Tree::new(&self.frames, self.roots[object].expect("every object exists between steps"))
    }
}

fn metadata(number: u64, fingerprint: u64) -> Metadata {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    let (flags, default_rights) = (ObjectFlags::PERSISTENT, Rights::READ);
    Metadata::new(&IdInputs { nonce, owner: ObjId::NONE, flags, default_rights }, fingerprint)
}
