//! The programs' own tests, in the machine, on one processor and on four.
#![forbid(unsafe_code)]

mod support;

use support::Machine;

fn program(command: &str, cpus: &str) {
    let machine = Machine::new("program").within(240).with(&["--cpus", cpus]);
    let run = machine.run(&["-c", command]);
    assert_eq!(run.status, 0, "`{command}` failed on {cpus} processors\n{run}");
}

#[test]
fn selftest_passes_on_one_cpu() {
    program("selftest", "1");
}

#[test]
fn selftest_passes_on_four_cpus() {
    program("selftest", "4");
}

#[test]
fn kernel_survives_wrong_calls_on_one_cpu() {
    program("fuzz", "1");
}

#[test]
fn kernel_survives_wrong_calls_on_four_cpus() {
    program("fuzz", "4");
}
