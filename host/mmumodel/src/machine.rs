//! A machine: CPUs over one physical memory, and the check that no CPU knows what is no longer so.

use twizzler_crashsim::Rng;

use crate::cpu::{Cached, Cpu, Pcid};
use crate::entry::{Access, Allowed, TOP_LEVEL};
use crate::physical::Physical;
use crate::walk::{Fault, Table, walk};

/// CPUs and their memory.
pub struct Machine<'m> {
    /// Physical memory.
    pub memory: Physical<'m>,
    /// The CPUs.
    pub cpus: Vec<Cpu>,
    /// Root of each PCID.
    pub roots: Vec<(Pcid, u64)>,
}

/// A CPU would use something that the tables no longer say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stale {
    /// Which CPU.
    pub cpu: usize,
    /// What it has cached.
    pub cached: Cached,
    /// What the tables say.
    pub now: String,
}

impl<'m> Machine<'m> {
    /// CPUs that have cached nothing and run the first root.
    #[must_use]
    pub fn new(memory: Physical<'m>, cpus: usize, roots: Vec<(Pcid, u64)>) -> Self {
        let mut cpu = Cpu::default();
        cpu.load_cr3(roots[0].1, roots[0].0, crate::cpu::Keep::Nothing);
        Self { memory, cpus: vec![cpu; cpus], roots }
    }

    /// An access by one CPU.
    ///
    /// # Errors
    /// The fault.
    pub fn access(&mut self, cpu: usize, linear: u64, access: Access, rng: &mut Rng) -> Result<u64, Fault> {
        self.cpus[cpu].access(&self.memory, linear, access, rng)
    }

    /// One CPU walks ahead.
    pub fn speculate(&mut self, cpu: usize, linear: u64, rng: &mut Rng) {
        self.cpus[cpu].speculate(&self.memory, linear, rng);
    }

    /// Checks that whatever any CPU has cached, in whichever PCID, is what the tables say now. Cached rights
    /// may be narrower than the tables' (that costs a fault), never wider.
    ///
    /// # Errors
    /// The first thing cached that isn't so.
    pub fn check_coherent(&self) -> Result<(), Stale> {
        for (number, cpu) in self.cpus.iter().enumerate() {
            for cached in cpu.cached() {
                self.check_cached(&cached).map_err(|now| Stale { cpu: number, cached, now })?;
            }
        }
        Ok(())
    }

    fn check_cached(&self, cached: &Cached) -> Result<(), String> {
        let (pcid, linear) = match *cached {
            Cached::Page(pcid, linear, _) | Cached::Table(pcid, linear, _) => (pcid, linear),
        };
        let Some(&(_, root)) = self.roots.iter().find(|(of, _)| *of == pcid) else {
            return Err("the PCID is no longer in use".into());
        };
        let top = Table { address: root, level: TOP_LEVEL, allowed: Allowed::ALL };
        let now = walk(&self.memory, top, linear);
        let agrees = match cached {
            Cached::Page(_, _, page) => now.end.is_ok_and(|(is, _)| {
                is.address == page.address
                    && is.len_bytes == page.len_bytes
                    && is.allowed.covers(page.allowed)
            }),
            Cached::Table(_, _, table) => now.tables.iter().any(|(is, _)| {
                is.address == table.address && is.level == table.level && is.allowed.covers(table.allowed)
            }),
        };
        if agrees { Ok(()) } else { Err(format!("{now:x?}")) }
    }
}
