//! Tests that need the machine: `test=all` or `test=NAME` on the command line.
//!
//! The stream on COM1 is `test NAME ... ok` or `FAILED: why` lines and a last line `N passed, M failed`; the machine
//! exits with 0 or 1.

use alloc::format;
use alloc::string::String;

use crate::machine::start_info::Boot;
use crate::machine::{power, serial};

/// A test: its name and what it does.
pub(crate) struct Test {
    /// Unique, in snake case.
    pub(crate) name: &'static str,
    /// Err says what was wrong.
    pub(crate) run: fn(&'static Boot) -> Result<(), String>,
}

/// Fails a test if a condition doesn't hold.
macro_rules! check {
    ($condition:expr $(, $($message:tt)+)?) => {
        if !$condition {
            return Err(alloc::format!(concat!(stringify!($condition), " at ", file!(), ":", line!() $(, " ", $($message)+)?)));
        }
    };
}
pub(crate) use check;

static SUITES: &[&[Test]] = &[];

/// Runs what `name` selects and ends the machine.
pub(crate) fn run(name: &str, boot: &'static Boot) -> ! {
    let (mut passed, mut failed) = (0, 0);
    for test in SUITES.iter().copied().flatten().filter(|test| name == "all" || name == test.name) {
        let result = (test.run)(boot);
        let text = match &result {
            Ok(()) => "ok",
            Err(why) => &format!("FAILED: {why}"),
        };
        serial::console().write(format!("test {} ... {text}\n", test.name).as_bytes());
        *if result.is_ok() { &mut passed } else { &mut failed } += 1;
    }
    serial::console().write(format!("{passed} passed, {failed} failed\n").as_bytes());
    power::off(u32::from(failed > 0 || passed == 0))
}
