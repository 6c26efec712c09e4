//! The other CPUs: what they run while an operation is under way, and how they are made to forget.

use std::cell::RefCell;
use std::ops::Range;

use twizzler_crashsim::Rng;
use twizzler_mmumodel::entry::{ADDRESS, Access, LARGE, PRESENT};
use twizzler_mmumodel::{Cached, Fault, Keep, Machine, Pcid};
use twizzler_store::tree::{METADATA_PAGE, Stale};
use twizzler_store::{FrameKind, FrameNo};

use super::ledger::{Ledger, PageOf};

/// Where an object is mapped: in each of these contexts, at this address.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pub(super) object: usize,
    pub(super) base: u64,
    pub(super) pcids: Vec<Pcid>,
}

/// What is wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Nothing.
    None,
    /// The n-th shootdown is left out.
    DropsShootdown(usize),
    /// CPUs forget only after the operation: frames are freed before.
    Late,
    /// Shootdowns empty the TLB alone; tables stay cached.
    PagesOnly,
    /// Shootdowns skip one context.
    SkipsContext,
    /// Shootdowns skip one CPU.
    SkipsCpu,
    /// Flushes do nothing: entries become present that are not durable.
    DropsFlushes,
    /// A present leaf is made to name another frame.
    ChangesPresent,
}

/// The CPUs, and what is known about memory.
pub(super) struct Cpus<'m> {
    pub(super) machine: RefCell<Machine<'m>>,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) mapped: RefCell<Vec<Mapped>>,
    rng: RefCell<Rng>,
    pub(super) flaw: Flaw,
    shootdowns: RefCell<Vec<String>>,
    /// Of the steps of operations, one in so many lets a CPU run.
    run_one_in: u64,
    late: RefCell<Vec<(usize, Range<u64>, Stale)>>,
}

impl<'m> Cpus<'m> {
    pub(super) fn new(machine: Machine<'m>, rng: Rng, flaw: Flaw) -> Self {
        Self {
            machine: RefCell::new(machine),
            ledger: RefCell::default(),
            mapped: RefCell::default(),
            rng: RefCell::new(rng),
            flaw,
            shootdowns: RefCell::default(),
            run_one_in: 3,
            late: RefCell::default(),
        }
    }

    /// Shootdowns so far, in words.
    pub(super) fn shootdowns(&self) -> Vec<String> {
        self.shootdowns.borrow().clone()
    }

    /// Now and then, some CPU does something with some page.
    pub(super) fn run_a_little(&self) {
        let mut rng = self.rng.borrow_mut();
        if !rng.one_in(self.run_one_in) {
            return;
        }
        let cpu = rng.index(self.machine.borrow().cpus.len());
        if rng.one_in(8) {
            self.switch(cpu, &mut rng);
        }
        let page = self.some_page(&mut rng);
        drop(rng);
        if let Some(page) = page {
            let kind = [Access::Read, Access::Write, Access::Fetch][self.rng.borrow_mut().index(3)];
            // A fault here would be served once the lock is free; the operation goes on first.
            let _ = self.access(cpu, page, kind);
        }
    }

    /// A page of a mapped object, mostly one of the first.
    fn some_page(&self, rng: &mut Rng) -> Option<PageOf> {
        let mapped = self.mapped.borrow();
        if mapped.is_empty() {
            return None;
        }
        let object = mapped[rng.index(mapped.len())].object;
        Some(PageOf { object, page: super::random_page(rng) })
    }

    /// Another context for a CPU; what it has cached stays, as with PCIDs.
    fn switch(&self, cpu: usize, rng: &mut Rng) {
        let mut machine = self.machine.borrow_mut();
        let (pcid, root) = machine.roots[rng.index(machine.roots.len())];
        machine.cpus[cpu].load_cr3(root, pcid, Keep::Everything);
    }

    /// An access to a page in the CPU's context, checked against the ledger.
    pub(super) fn access(&self, cpu: usize, page: PageOf, access: Access) -> Result<FrameNo, Fault> {
        let Some(linear) = self.linear(page) else { return Err(Fault::NotPresent { level: 4 }) };
        let mut rng = self.rng.borrow_mut();
        let physical = self.machine.borrow_mut().access(cpu, linear, access, &mut rng)?;
        let frame = FrameNo::of(physical);
        let mut ledger = self.ledger.borrow_mut();
        ledger.reached(frame, page);
        if page.page == 0 {
            ledger.violation(format!("the null page of object {} can be accessed", page.object));
        }
        if page.page == METADATA_PAGE && access == Access::Write {
            ledger.violation(format!("the metadata of object {} can be written", page.object));
        }
        Ok(frame)
    }

    fn linear(&self, page: PageOf) -> Option<u64> {
        let mapped = self.mapped.borrow();
        mapped.iter().find(|mapped| mapped.object == page.object).map(|mapped| mapped.base + page.page * 4096)
    }

    /// Every CPU comes by these pages in every context, so that it has cached whatever it can.
    pub(super) fn warm(&self, pages: impl Iterator<Item = PageOf> + Clone) {
        let mut rng = self.rng.borrow_mut();
        let mut machine = self.machine.borrow_mut();
        for cpu in 0..machine.cpus.len() {
            for (pcid, root) in machine.roots.clone() {
                machine.cpus[cpu].load_cr3(root, pcid, Keep::Everything);
                for page in pages.clone() {
                    if let Some(linear) = self.linear(page) {
                        machine.speculate(cpu, linear, &mut rng);
                    }
                }
            }
        }
    }

    /// Makes CPUs forget pages of an object: what the kernel does for `Invalidate`, or what is wrong on purpose.
    pub(super) fn shoot(&self, object: usize, pages: Range<u64>, stale: Stale) {
        let number = self.shootdowns.borrow().len();
        self.shootdowns.borrow_mut().push(format!("{stale:?} of {pages:?} of object {object}"));
        match self.flaw {
            Flaw::DropsShootdown(dropped) if dropped == number => {}
            Flaw::Late => self.late.borrow_mut().push((object, pages, stale)),
            _ => self.shoot_now(object, &pages, stale),
        }
        self.ledger.borrow_mut().forgotten();
    }

    /// A frame is about to be free: no CPU may have a way to it any more.
    pub(super) fn check_unreachable(&self, frame: FrameNo) {
        let reaches = |cached: &Cached| match cached {
            Cached::Page(_, _, page) => {
                (page.address..page.address + page.len_bytes).contains(&frame.physical())
            }
            Cached::Table(_, _, table) => table.address == frame.physical(),
        };
        for (number, cpu) in self.machine.borrow().cpus.iter().enumerate() {
            if let Some(cached) = cpu.cached().find(reaches) {
                let text = format!("{frame:?} is freed, and CPU {number} has {cached:x?}");
                self.ledger.borrow_mut().violation(text);
            }
        }
    }

    /// The operation has returned.
    pub(super) fn operation_ended(&self) {
        for (object, pages, stale) in self.late.take() {
            self.shoot_now(object, &pages, stale);
        }
        if let Err(stale) = self.machine.borrow().check_coherent() {
            self.ledger.borrow_mut().violation(format!("{stale:x?}"));
        }
    }

    fn shoot_now(&self, object: usize, pages: &Range<u64>, stale: Stale) {
        let mapped = self.mapped.borrow().iter().find(|mapped| mapped.object == object).cloned();
        let Some(mapped) = mapped else { return };
        let mut machine = self.machine.borrow_mut();
        let skipped = usize::from(self.flaw == Flaw::SkipsContext);
        let pcids = mapped.pcids.iter().skip(skipped);
        for (number, cpu) in machine.cpus.iter_mut().enumerate() {
            if self.flaw == Flaw::SkipsCpu && number == 1 {
                continue;
            }
            for &pcid in pcids.clone() {
                match stale {
                    Stale::Tables if self.flaw == Flaw::PagesOnly => cpu.forget_pages_only(pcid),
                    Stale::Leaves if pages.end - pages.start <= 16 => {
                        pages.clone().for_each(|page| cpu.invpcid_address(pcid, mapped.base + page * 4096));
                    }
                    Stale::Leaves | Stale::Tables => cpu.invpcid_context(pcid),
                }
            }
        }
    }

    /// Checks that whatever is mapped is in the ledger as what it is used for.
    pub(super) fn check_tables(&self) {
        let machine = self.machine.borrow();
        let mut ledger = self.ledger.borrow_mut();
        for mapped in &*self.mapped.borrow() {
            let root =
                machine.roots.iter().find(|(pcid, _)| mapped.pcids.contains(pcid)).expect("a context").1;
            let Some(pdpt) = entry(&machine, root, mapped.base, 4) else { continue };
            let Some(top) = entry(&machine, pdpt & ADDRESS, mapped.base, 3) else { continue };
            check_table(&machine, &mut ledger, top & ADDRESS, 2);
        }
    }
}

fn entry(machine: &Machine<'_>, table: u64, linear: u64, level: u32) -> Option<u64> {
    let at = table + 8 * twizzler_mmumodel::entry::index(linear, level);
    machine.memory.load(at).filter(|entry| entry & PRESENT != 0)
}

fn check_table(machine: &Machine<'_>, ledger: &mut Ledger, table: u64, level: u32) {
    for index in 0..512 {
        let Some(entry) = machine.memory.load(table + 8 * index).filter(|entry| entry & PRESENT != 0) else {
            continue;
        };
        let frame = FrameNo::of(entry & ADDRESS);
        let leaf = level == 1 || entry & LARGE != 0;
        let wanted = if leaf { FrameKind::Data } else { FrameKind::Table };
        if ledger.kind(frame) != Some(wanted) {
            let is = ledger.kind(frame);
            ledger.violation(format!("a table names {frame:?} as {wanted:?}, which is {is:?}"));
        }
        if !leaf {
            check_table(machine, ledger, entry & ADDRESS, level - 1);
        }
    }
}
