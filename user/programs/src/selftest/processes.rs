//! Other programs: this one, started again.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use twizzler_abi::call::StatOp;
use twizzler_rt::process::{Kept, Program, SpawnError};
use twizzler_rt::thread::End;
use twizzler_rt::{call, exit, println, sync, system_word};

use super::{Test, Verdict, failed, holds, same};
use crate::shell::archived_file;

pub(super) const TESTS: &[Test] = &[
    ("a_program_gets_its_arguments", a_program_gets_its_arguments),
    ("a_program_that_ends_leaves_nothing", a_program_that_ends_leaves_nothing),
    ("a_program_is_killed_with_its_threads", a_program_is_killed_with_its_threads),
    ("vector_state_survives_thread_switches", vector_state_survives_thread_switches),
    ("what_is_no_program_is_refused", what_is_no_program_is_refused),
];

/// What the child does.
pub(super) fn child(arguments: &[String]) -> u64 {
    match arguments.first().map(String::as_str) {
        Some("print") => {
            println!("{}", arguments[1..].join("|"));
            7
        }
        Some("threads") => {
            for _ in 0..3 {
                let spins = || loop {
                    core::hint::spin_loop();
                };
                if twizzler_rt::thread::spawn::<()>("spins", spins).is_err() {
                    return exit::FAILURE;
                }
            }
            loop {
                sync::sleep_ns(1_000_000_000);
            }
        }
        Some("panic") => panic!("asked to"),
        _ => exit::USAGE,
    }
}

fn own_file() -> Result<Vec<u8>, String> {
    archived_file("bin/selftest").ok_or_else(|| "the boot archive is not lent to this program".into())
}

fn load(file: &[u8]) -> Result<Program, SpawnError> {
    Program::load(file.len() as u64, |at, bytes| bytes.copy_from_slice(&file[at as usize..][..bytes.len()]))
}

fn own_program() -> Result<Program, String> {
    load(&own_file()?).map_err(failed("load"))
}

fn a_program_gets_its_arguments() -> Verdict {
    let kept = Kept::new().map_err(failed("keep output"))?;
    let long = "x".repeat(5000);
    let words = ["selftest", "child", "print", "one", "", "zwölf drei", &long];
    let mut child = own_program()?.spawn(&words, &[&kept.variable()]).map_err(failed("spawn"))?;
    same("end", child.wait_for_end(), End::Exited(7))?;
    let expected = alloc::format!("one||zwölf drei|{long}\n");
    holds("it printed its arguments", kept.read() == Ok(expected.into_bytes()))
}

fn a_program_that_ends_leaves_nothing() -> Verdict {
    let program = own_program()?;
    let counts = || {
        // The gauges are published now and then.
        sync::sleep_ns(100_000_000);
        (system_word!(objects_volatile), system_word!(dram_free_bytes))
    };
    let run = |word| {
        let kept = Kept::new().map_err(failed("keep output"))?;
        let mut child =
            program.spawn(&["selftest", "child", word], &[&kept.variable()]).map_err(failed("spawn"))?;
        Ok::<_, String>(child.wait_for_end())
    };
    // The kernel's caches may grow in the first rounds.
    let mut before = counts();
    let mut lost = 0;
    for _ in 0..4 {
        for _ in 0..5 {
            same("end", run("print")?, End::Exited(7))?;
        }
        let after = counts();
        same("objects", after.0, before.0)?;
        lost = before.1.saturating_sub(after.1);
        before = after;
    }
    if lost <= 64 << 10 { Ok(()) } else { Err(alloc::format!("{lost} bytes of memory do not come back")) }
}

fn a_program_is_killed_with_its_threads() -> Verdict {
    let threads = || twizzler_rt::system::threads().len();
    let objects =
        || call::objects(StatOp::NextVolatile).map(|stat| (stat.id, stat.flags)).collect::<BTreeMap<_, _>>();
    let before = (threads(), objects());
    let child = own_program()?.spawn(&["selftest", "child", "threads"], &[]).map_err(failed("spawn"))?;
    let start = twizzler_rt::system::now_ns();
    while threads() < before.0 + 4 && twizzler_rt::system::now_ns() - start < 5_000_000_000 {
        call::thread_yield();
    }
    same("threads while it runs", threads(), before.0 + 4)?;
    drop(child);
    same("threads afterwards", threads(), before.0)?;
    let left = objects().into_iter().find(|(id, _)| !before.1.contains_key(id));
    same("an object (ID, flags) that is left", left, None)
}

/// Two such programs, so that threads of different programs take turns, too.
fn vector_state_survives_thread_switches() -> Verdict {
    let file = archived_file("bin/vector").ok_or("the boot archive has no vector")?;
    let program = load(&file).map_err(failed("load"))?;
    let kept = Kept::new().map_err(failed("keep output"))?;
    let spawn = || program.spawn(&["vector"], &[&kept.variable()]).map_err(failed("spawn"));
    let (mut one, mut other) = (spawn()?, spawn()?);
    same("end", [one.wait_for_end(), other.wait_for_end()], [End::Exited(0), End::Exited(0)])
}

fn what_is_no_program_is_refused() -> Verdict {
    let before = system_word!(objects_volatile);
    let file = own_file()?;
    let mut files: Vec<Vec<u8>> =
        vec![Vec::new(), b"#!/bin/sh\n".to_vec(), vec![0x7f; 4096], file[..2000].to_vec()];
    for at in [4, 5, 16, 18, 28, 32, 54, 64 + 4, 64 + 16, 64 + 38, 64 + 46] {
        let mut broken = file.clone();
        broken[at] ^= 0xff;
        broken[at + 1] ^= 0x7f;
        files.push(broken);
    }
    for (index, file) in files.into_iter().enumerate() {
        match load(&file) {
            Err(SpawnError::Load(_)) => {}
            other => return Err(alloc::format!("file {index}: {other:?}")),
        }
    }
    same("objects afterwards", system_word!(objects_volatile), before)
}
