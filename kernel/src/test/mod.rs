//! Tests that need the machine: `test=all` or `test=NAME` on the command line.
//!
//! The stream on COM1 is `test NAME ... ok` or `FAILED: why` lines and a last line `N passed, M failed`; the machine
//! exits with 0 or 1. `test=panic` and `test=overflow` (of the kernel stack) end with a panic's report and status instead,
//! so that these can be tested from outside.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::machine::start_info::Boot;
use crate::machine::{entry, power, serial};

mod machine;
mod memory;
mod object;
mod thread;
mod user;
mod view;

/// A test: its name and what it does.
pub(crate) struct Test {
    /// Unique, in snake case.
    pub(crate) name: &'static str,
    /// Err says what was wrong. It may not return and call [`finish`] instead.
    pub(crate) run: fn(&'static Boot) -> Result<(), String>,
}

/// Fails a test if a condition doesn't hold.
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            return Err(alloc::format!(concat!(stringify!($condition), " at ", file!(), ":", line!())));
        }
    };
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(alloc::format!("{} at {}:{}: {}", stringify!($condition), file!(), line!(), format_args!($($message)+)));
        }
    };
}
pub(crate) use check;

static SUITES: &[&[Test]] =
    &[memory::TESTS, machine::TESTS, object::TESTS, view::TESTS, thread::TESTS, user::TESTS];

/// The test that runs, and how many have passed and failed.
static AT: AtomicUsize = AtomicUsize::new(0);
static PASSED: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicUsize = AtomicUsize::new(0);
static BOOT: spin::Once<&'static Boot> = spin::Once::new();

/// Runs what the command line selects and ends the machine.
///
/// # Panics
/// If that is `panic` or `overflow`.
pub(crate) fn run(boot: &'static Boot) -> ! {
    BOOT.call_once(|| boot);
    match boot.value("test") {
        Some("panic") => panic!("as the command line asks"),
        Some("overflow") => overflow(0),
        _ => {}
    }
    go_on()
}

/// Runs into the guard page.
#[inline(never)]
#[allow(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u64) {
    core::hint::black_box([depth; 64]);
    overflow(depth + 1);
    core::hint::black_box(depth);
}

/// Ends a test that can't return, because it has left its stack, and goes on with the next.
pub(crate) fn finish(result: Result<(), String>) -> ! {
    report(&result);
    go_on()
}

fn go_on() -> ! {
    let boot = BOOT.get().expect("set in `run`");
    let selected = boot.value("test").unwrap_or("all");
    while let Some(test) = SUITES.iter().copied().flatten().nth(AT.load(Ordering::Relaxed)) {
        if selected == "all" || selected == test.name {
            // A test may have installed its own.
            entry::install(&crate::thread::entry::HOOKS);
            report(&(test.run)(boot));
        } else {
            AT.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (passed, failed) = (PASSED.load(Ordering::Relaxed), FAILED.load(Ordering::Relaxed));
    serial::console().write(format!("{passed} passed, {failed} failed\n").as_bytes());
    power::off(u32::from(failed > 0 || passed == 0))
}

fn report(result: &Result<(), String>) {
    let at = AT.fetch_add(1, Ordering::Relaxed);
    let test = SUITES.iter().copied().flatten().nth(at).expect("a test has run");
    let (count, text) = match result {
        Ok(()) => (&PASSED, "ok"),
        Err(why) => (&FAILED, &*format!("FAILED: {why}")),
    };
    count.fetch_add(1, Ordering::Relaxed);
    serial::console().write(format!("test {} ... {text}\n", test.name).as_bytes());
}
