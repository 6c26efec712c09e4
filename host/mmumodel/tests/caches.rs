//! What the model caches and forgets, over tables made by hand; and shootdowns that are wrong on purpose.

use twizzler_crashsim::{Rng, SimMemory};
use twizzler_mmumodel::entry::{ACCESSED, Access, DIRTY, LARGE, PRESENT, USER, WRITE, index};
use twizzler_mmumodel::{Cached, Fault, Keep, Machine, Pcid, Physical, Region};
use twizzler_pmem::Persist;

const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED;
const LEAF: u64 = TABLE | DIRTY;
const BASE: u64 = 0x10_0000;
const PAGE: u64 = 4096;
const LINEAR: u64 = 1 << 39 | 5 << 30 | 7 << 21 | 9 << 12;

/// Frames 0 PML4 of PCID 1, 1 PML4 of PCID 2, 2 PDPT, 3 PD, 4 PT, 5 and 6 data.
fn tables() -> SimMemory {
    let memory = SimMemory::zeroed(16 * PAGE);
    for root in [0, 1] {
        put(&memory, root, 4, TABLE | frame(2));
    }
    put(&memory, 2, 3, TABLE | frame(3));
    put(&memory, 3, 2, TABLE | frame(4));
    put(&memory, 4, 1, LEAF | frame(5));
    memory
}

fn frame(number: u64) -> u64 {
    BASE + number * PAGE
}

fn put(memory: &SimMemory, table: u64, level: u32, entry: u64) {
    memory.store(table * PAGE + 8 * index(LINEAR, level), entry);
}

fn machine(memory: &SimMemory, cpus: usize) -> Machine<'_> {
    let physical = Physical::new(vec![Region { base: BASE, memory }]);
    Machine::new(physical, cpus, vec![(1, frame(0)), (2, frame(1))])
}

/// Any of the ways that are possible, so often that each comes up.
fn outcomes(machine: &Machine<'_>, cpu: usize, access: Access) -> Vec<Result<u64, Fault>> {
    let mut found = Vec::new();
    for seed in 0..64 {
        let outcome =
            machine.cpus[cpu].clone().access(&machine.memory, LINEAR + 8, access, &mut Rng::new(seed));
        if !found.contains(&outcome) {
            found.push(outcome);
        }
    }
    found
}

fn warm(machine: &mut Machine<'_>, cpu: usize, pcid: Pcid) {
    let root = machine.roots.iter().find(|(of, _)| *of == pcid).expect("known").1;
    machine.cpus[cpu].load_cr3(root, pcid, Keep::Everything);
    machine.access(cpu, LINEAR, Access::Write, &mut Rng::new(0)).expect("mapped");
}

#[test]
fn a_walk_goes_where_the_tables_say() {
    let memory = tables();
    let machine = machine(&memory, 1);
    assert_eq!(outcomes(&machine, 0, Access::Write), [Ok(frame(5) + 8)]);
    put(&memory, 2, 3, (TABLE & !WRITE) | frame(3));
    assert_eq!(outcomes(&machine, 0, Access::Write), [Err(Fault::Rights { access: Access::Write })]);
    assert_eq!(outcomes(&machine, 0, Access::Read), [Ok(frame(5) + 8)]);
    put(&memory, 3, 2, LEAF | LARGE | (2 << 21));
    assert_eq!(outcomes(&machine, 0, Access::Read), [Ok((2 << 21) + (9 << 12) + 8)]);
    put(&memory, 2, 3, TABLE | 0xffff_f000);
    assert!(matches!(outcomes(&machine, 0, Access::Read)[..], [Err(Fault::NoMemory { .. })]));
}

#[test]
fn nothing_that_is_not_present_is_cached() {
    let memory = tables();
    put(&memory, 4, 1, 0);
    let mut machine = machine(&memory, 1);
    machine.speculate(0, LINEAR, &mut Rng::new(0));
    assert_eq!(machine.cpus[0].cached().filter(|cached| matches!(cached, Cached::Page(..))).count(), 0);
    put(&memory, 4, 1, LEAF | frame(5));
    assert_eq!(outcomes(&machine, 0, Access::Write), [Ok(frame(5) + 8)]);
}

#[test]
fn what_was_unmapped_lives_on_until_it_is_invalidated() {
    let memory = tables();
    let mut machine = machine(&memory, 2);
    warm(&mut machine, 0, 1);
    put(&memory, 4, 1, 0);
    assert_eq!(outcomes(&machine, 0, Access::Write).len(), 2, "stale or fault");
    assert!(machine.check_coherent().is_err());
    machine.cpus[0].invlpg(LINEAR);
    assert_eq!(outcomes(&machine, 0, Access::Write), [Err(Fault::NotPresent { level: 1 })]);
    machine.check_coherent().expect("forgotten");
}

#[test]
fn a_cached_table_outlives_its_entry() {
    let memory = tables();
    let mut machine = machine(&memory, 1);
    warm(&mut machine, 0, 1);
    put(&memory, 2, 3, 0);
    machine.cpus[0].forget_pages_only(1);
    let stale = machine.check_coherent().expect_err("the TLB alone was emptied");
    assert!(matches!(stale.cached, Cached::Table(..)), "{stale:?}");
    // The PT is now data: whoever wrote it chooses what is mapped.
    put(&memory, 4, 1, LEAF | frame(6));
    assert!(outcomes(&machine, 0, Access::Write).contains(&Ok(frame(6) + 8)));
    machine.cpus[0].invpcid_context(1);
    machine.check_coherent().expect("forgotten");
}

#[test]
fn a_pcid_that_is_not_running_keeps_what_it_has() {
    let memory = tables();
    let mut machine = machine(&memory, 1);
    warm(&mut machine, 0, 1);
    warm(&mut machine, 0, 2);
    put(&memory, 4, 1, 0);
    machine.cpus[0].invlpg(LINEAR);
    assert!(machine.check_coherent().is_err(), "PCID 1 was skipped");
    machine.cpus[0].invpcid_address(1, LINEAR);
    machine.check_coherent().expect("forgotten");
    warm_fails(&mut machine);
}

fn warm_fails(machine: &mut Machine<'_>) {
    assert!(machine.access(0, LINEAR, Access::Read, &mut Rng::new(0)).is_err());
}

#[test]
fn loading_cr3_forgets_its_pcid_alone() {
    let memory = tables();
    let mut machine = machine(&memory, 1);
    warm(&mut machine, 0, 1);
    warm(&mut machine, 0, 2);
    machine.cpus[0].load_cr3(frame(1), 2, Keep::Nothing);
    let pcids: Vec<_> = machine.cpus[0].cached().map(|cached| pcid(&cached)).collect();
    assert!(!pcids.is_empty() && pcids.iter().all(|&pcid| pcid == 1));
}

fn pcid(cached: &Cached) -> Pcid {
    match *cached {
        Cached::Page(pcid, ..) | Cached::Table(pcid, ..) => pcid,
    }
}

#[test]
fn rights_that_shrank_are_stale_and_rights_that_grew_are_not() {
    let memory = tables();
    let mut machine = machine(&memory, 1);
    warm(&mut machine, 0, 1);
    put(&memory, 2, 3, (TABLE & !WRITE) | frame(3));
    assert!(machine.check_coherent().is_err());
    machine.cpus[0].invpcid_all();
    machine.access(0, LINEAR, Access::Read, &mut Rng::new(0)).expect("readable");
    put(&memory, 2, 3, TABLE | frame(3));
    machine.check_coherent().expect("a narrower right costs a fault, no more");
}
