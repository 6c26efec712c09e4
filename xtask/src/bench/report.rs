//! The figures as JSON and as a page of the documentation.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::boot::{Boot, Mount};
use super::figures::Cost;
use super::search::Search;
use twz::size::Bytes;

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) date: String,
    pub(super) host: String,
    pub(super) qemu: String,
    pub(super) linux: String,
    pub(super) boot: Boot,
    pub(super) mounts: Vec<Mount>,
    pub(super) operations: Vec<Operation>,
    pub(super) searches: Vec<Search>,
    pub(super) kernel_lines: usize,
    pub(super) calls: usize,
}

/// One operation, beside Linux's where there is an equivalent.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Operation {
    name: String,
    ns: f64,
    instructions: f64,
    linux_ns: Option<f64>,
    linux_instructions: Option<f64>,
}

/// What the names stand for: here, and on Linux.
const MEANINGS: [(&str, &str, &str); 17] = [
    ("null_call", "a call that does nothing", "getppid"),
    ("page_fault", "first touch of a page, volatile", "first touch of an anonymous page"),
    ("map_touch_unmap", "map an object, touch it, unmap it", "mmap, touch, munmap of a memfd"),
    ("create_delete", "make an object, write a page, delete it", "memfd_create, write a page, close"),
    ("yield_switch", "switch between two threads that yield", "sched_yield of two threads"),
    ("futex_ping_pong", "wake another thread and be woken", "the same by futex"),
    ("pipe_ping_pong", "", "a byte there and back through pipes"),
    ("sync_wake", "wake nobody", ""),
    ("object_create_volatile", "make an object in DRAM", ""),
    ("object_delete_volatile", "delete it", ""),
    ("object_create", "make an object in NVM", ""),
    ("object_delete", "delete it", ""),
    ("object_map", "map an object: view entry and fault", ""),
    ("first_touch", "first touch of a page in NVM", ""),
    ("thread_spawn_join", "start a thread and wait for its end", ""),
    ("random_16", "16 random bytes", ""),
    ("clock", "read the clock", ""),
];

/// Puts the two sides next to each other.
pub(super) fn side_by_side(twizzler: &[Cost], linux: &[Cost]) -> Vec<Operation> {
    let on_linux = |name: &str| linux.iter().find(|cost| cost.name == name);
    twizzler
        .iter()
        .filter(|cost| !["boot", "mount"].contains(&cost.name.as_str()))
        .map(|cost| Operation {
            name: cost.name.clone(),
            ns: cost.ns,
            instructions: cost.instructions,
            linux_ns: on_linux(&cost.name).map(|cost| cost.ns),
            linux_instructions: on_linux(&cost.name).map(|cost| cost.instructions),
        })
        .collect()
}

/// The page.
pub(super) fn page(report: &Report) -> Result<String> {
    let mut page = String::from("# Figures\n\n");
    writeln!(
        page,
        "Written by `cargo run -- bench` on {}; the same as JSON: [bench/latest.json](bench/latest.json). Host: {}. {}, TCG, one\n\
         processor. The other side: Linux {} in the same emulator, without mitigations, its program alone in an initramfs\n\
         (`bench/examples/linux_peer.rs`). Times under TCG say how much QEMU has to translate; instructions are those that the guest\n\
         executes (`-icount shift=0`), and are the better measure. Ratios below 1: Twizzler needs less.\n",
        report.date, report.host, report.qemu, report.linux
    )?;
    operations(&mut page, report)?;
    boot(&mut page, report)?;
    search(&mut page, report)?;
    writeln!(
        page,
        "\n## Size\n\n{} lines run in the kernel, counted without tests, comments and blank lines, and with the shared crates \
         (`cargo run -- loc`; limit 12,000). {} calls (limit 20).",
        report.kernel_lines, report.calls
    )?;
    Ok(page)
}

fn operations(page: &mut String, report: &Report) -> Result<()> {
    page.push_str("## Operations\n\n| operation | ns | instructions | on Linux | ns | instructions | ratio ns | ratio instructions |\n|---|---|---|---|---|---|---|---|\n");
    for operation in &report.operations {
        let meaning = MEANINGS.iter().find(|(name, ..)| *name == operation.name);
        let (here, there) = meaning.map_or((operation.name.as_str(), ""), |(_, here, there)| (here, there));
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.0}"));
        let ratio = |a: f64, b: Option<f64>| b.map_or(String::new(), |b| format!("{:.2}", a / b));
        writeln!(
            page,
            "| {here} | {:.0} | {:.0} | {there} | {} | {} | {} | {} |",
            operation.ns,
            operation.instructions,
            number(operation.linux_ns),
            number(operation.linux_instructions),
            ratio(operation.ns, operation.linux_ns),
            ratio(operation.instructions, operation.linux_instructions),
        )?;
    }
    Ok(())
}

fn boot(page: &mut String, report: &Report) -> Result<()> {
    writeln!(
        page,
        "\n## Power-on\n\nFrom the start of QEMU to the first output of a command: {:.0} ms. Linux, to the first line of its only process: {:.0} ms.\n\n\
         Mount after a power cut, by what the store holds (counts are rebuilt from the trees):\n\n| store | in use | objects | ms |\n|---|---|---|---|",
        report.boot.ms, report.boot.linux_ms
    )?;
    for mount in &report.mounts {
        writeln!(
            page,
            "| {} | {} | {} | {:.1} |",
            mount.holds,
            Bytes(mount.used_bytes),
            mount.objects,
            mount.ms
        )?;
    }
    Ok(())
}

fn search(page: &mut String, report: &Report) -> Result<()> {
    page.push_str(
        "\n## Search after a reboot\n\nFrom the command to the answer, the start of the program included; nothing is loaded or rebuilt.\n\
         The first search of a boot runs code that QEMU has not translated yet, further ones are new processes, but find it translated:\n\
         that is nearly all of the difference (see the caveats). First: the median of nine boots; again: the best. Answers go through a serial\n\
         port, byte by byte. The third word of each index is in the same texts of both: it shows what the index's size costs. NVM touched is\n\
         counted in whole pages, by the accessed bits of the host.\n\n| text | texts | index | words | answers | first, ms | again, ms | instructions | faults | NVM touched |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for search in &report.searches {
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.0} | {} | {} |",
            Bytes(search.text_bytes),
            search.texts,
            Bytes(search.index_bytes),
            search.words,
            search.answers,
            search.first_ms,
            search.again_ms,
            search.instructions,
            search.faults,
            Bytes(search.touched_bytes)
        )?;
    }
    Ok(())
}
