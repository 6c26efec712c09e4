//! `mutants`: mistakes that are built in on purpose, one after the other; the named test has to fail each time.
//!
//! The crash simulator leaves out flushes and fences by itself. What it can't leave out or put elsewhere is order in the program's text: an
//! unlock before a fence, a change in place before the log's sync. Here the text itself is changed, in a copy of the repository.
//! That a mistake is really there is known from its text being found exactly once; that a failure means something, from the tests'
//! passing without any mistake, and with one that is none ([`HARMLESS`]).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::paths;
use crate::progress::say;

mod table;

use table::{HARMLESS, MUTANTS};

/// Arguments of `mutants`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Only those whose names contain this
    #[arg(value_name = "NAME", default_value = "")]
    pub name: String,
}

/// A mistake.
#[derive(Clone, Copy, Debug)]
struct Mutant {
    name: &'static str,
    file: &'static str,
    /// Found exactly once.
    from: &'static str,
    to: &'static str,
    /// Who has to notice.
    test: Test,
}

/// A test: package, test program, filter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Test(&'static str, &'static str, &'static str);

/// What a test says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Passes,
    Fails,
}

/// Builds in one mistake after the other.
///
/// # Errors
/// Where one is not noticed, or can't be built in.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let wanted: Vec<&Mutant> =
        MUTANTS.iter().filter(|mutant| mutant.name.contains(&arguments.name)).collect();
    ensure!(!wanted.is_empty(), "no mistake has {} in its name", arguments.name);
    let copy = Copy::make()?;
    let mut tests: Vec<Test> = wanted.iter().map(|mutant| mutant.test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        say(format!("Without a mistake: {} of {} ...", test.2, test.1));
        ensure!(copy.try_out(test)?.0 == Outcome::Passes, "{} fails by itself", test.2);
    }
    ensure!(copy.with(&HARMLESS)?.0 == Outcome::Passes, "what is no mistake is taken for one");
    let mut missed = Vec::new();
    for mutant in &wanted {
        say(format!("{} ...", mutant.name));
        let (outcome, took) = copy.with(mutant)?;
        println!(
            "{}\t{}\t{}\t{:.1} s",
            if outcome == Outcome::Fails { "noticed" } else { "MISSED" },
            mutant.name,
            mutant.test.2,
            took.as_secs_f64()
        );
        if outcome == Outcome::Passes {
            missed.push(mutant.name);
        }
    }
    ensure!(missed.is_empty(), "nobody notices: {}", missed.join(", "));
    Ok(0)
}

/// The repository once more, without what was built.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn make() -> Result<Self> {
        let root = paths::root().join("target/mutants/tree");
        if root.exists() {
            std::fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
        }
        copy_folder(paths::root(), &root)?;
        Ok(Self { root })
    }

    /// Runs a mutant's test with it. How long that took, without building it.
    fn with(&self, mutant: &Mutant) -> Result<(Outcome, Duration)> {
        let path = self.root.join(mutant.file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let found = text.matches(mutant.from).count();
        ensure!(
            found == 1,
            "{}: its text is in {} {found} times: {:?}",
            mutant.name,
            mutant.file,
            mutant.from
        );
        std::fs::write(&path, text.replace(mutant.from, mutant.to))?;
        let outcome = self.try_out(mutant.test);
        std::fs::write(&path, text)?;
        outcome.with_context(|| format!("with {}", mutant.name))
    }

    fn try_out(&self, Test(package, program, filter): Test) -> Result<(Outcome, Duration)> {
        let cargo = |more: &[&str]| {
            Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .args(["test", "--quiet", "--package", package, "--test", program])
                .args(more)
                .current_dir(&self.root)
                .env("CARGO_TARGET_DIR", paths::root().join("target/mutants/build"))
                .env("CARGO_PROFILE_TEST_OPT_LEVEL", "1")
                .env("RUSTFLAGS", "-Aunused")
                .output()
                .context("cargo could not be started")
        };
        let built = cargo(&["--no-run"])?;
        ensure!(built.status.success(), "it can't be built:\n{}", String::from_utf8_lossy(&built.stderr));
        let start = Instant::now();
        let ran = cargo(&["--", filter])?;
        let took = start.elapsed();
        let said = String::from_utf8_lossy(&ran.stdout);
        ensure!(!said.contains("running 0 tests"), "there is no test {filter} in {program}");
        Ok((if ran.status.success() { Outcome::Passes } else { Outcome::Fails }, took))
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    const LEFT_OUT: [&str; 2] = ["target", ".git"];
    std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let (path, to) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            copy_folder(&path, &to)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(&path, &to).with_context(|| format!("copying {}", path.display()))?;
        }
    }
    Ok(())
}
