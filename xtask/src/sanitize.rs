//! `sanitize`: damaged and hostile data under AddressSanitizer, which stops at the first access beyond what the program was given.
//!
//! The tests are those of `shared/object` that try such data. What lies in objects is memory of the host's, where any access is
//! as good as another; the sanitizer watches what the library keeps for itself: buffers, staged lines, tables, stacks.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::paths;
use crate::progress::say;

/// The tests.
const TESTS: [&str; 10] = [
    "hostile",
    "pointers",
    "foreign",
    "entries",
    "typed",
    "chains",
    "types",
    "type_lists",
    "threads",
    "mappings",
];
/// What is compiled; the sanitizer asks that it be named, so that build scripts are left alone.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Arguments of `sanitize`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Cases of each kind of damage
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub cases: u32,
}

/// Runs the tests.
///
/// # Errors
/// That a test or the sanitizer has found something, or that the compiler has no sanitizer.
pub fn run(arguments: &Arguments) -> Result<u8> {
    say(format!(
        "Damaged and hostile data under AddressSanitizer, {} cases of each kind ...",
        arguments.cases
    ));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--target", TARGET, "--package", "twizzler-object"]);
    cargo.args(TESTS.iter().flat_map(|test| ["--test", test]));
    let status = cargo
        .current_dir(paths::root())
        .env("CARGO_TARGET_DIR", paths::root().join("target/sanitize"))
        .env("CARGO_PROFILE_TEST_OPT_LEVEL", "1")
        .env("TWIZZLER_CASES", arguments.cases.to_string())
        // The sanitizer's library comes with stable compilers, its option does not.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Programs that are killed are spaces that are forgotten, with all that they have.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .status()
        .context("cargo could not be started")?;
    ensure!(
        status.success(),
        "a test failed, AddressSanitizer found something, or this compiler has none: see above"
    );
    Ok(0)
}
