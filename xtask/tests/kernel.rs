//! The kernel's own tests, in the machine, on one processor and on four.
#![forbid(unsafe_code)]

mod support;

use support::Machine;

fn kernel_tests(cpus: &str) {
    let machine = Machine::new("kernel").within(180).with(&["--cpus", cpus]);
    let run = machine.run(&["--kernel-arguments", "test=all"]);
    let passed =
        run.stdout.lines().filter(|line| line.starts_with("test ") && line.ends_with("... ok")).count();
    let total = run.stdout.lines().rfind(|line| line.contains(" passed, "));
    assert_eq!(run.status, 0, "kernel tests failed\n{run}");
    assert_eq!(total, Some(format!("{passed} passed, 0 failed").as_str()), "{run}");
    assert!(passed > 0, "no test ran\n{run}");
}

#[test]
fn kernel_tests_pass_on_one_cpu() {
    kernel_tests("1");
}

#[test]
fn kernel_tests_pass_on_four_cpus() {
    kernel_tests("4");
}

#[test]
fn panic_has_its_status_and_names_the_log_with_a_backtrace() {
    let machine = Machine::new("panic");
    let run = machine.run(&["--kernel-arguments", "test=panic"]);
    assert_eq!(run.status, i32::from(xtask::status::PANIC), "{run}");
    assert!(run.stderr.contains(&run.log.display().to_string()), "the log is not named\n{run}");
    let log = std::fs::read_to_string(&run.log).expect("a kernel log");
    assert!(log.contains("twizzler_kernel::"), "no symbolised backtrace in\n{log}");
}
