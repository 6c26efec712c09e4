//! Compiles the kernel and the programs for bare metal.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::setup::{TARGET, Way};
use crate::{paths, progress};

/// What the build made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The kernel's ELF file.
    pub kernel: PathBuf,
    /// The programs: name and ELF file.
    pub programs: Vec<(String, PathBuf)>,
}

/// One of the two things that are compiled for bare metal, each in its own target folder, because cargo
/// would compile all anew at each change of flags.
pub(crate) struct Part {
    pub(crate) what: &'static str,
    pub(crate) package: &'static str,
    /// Where under the target folder.
    folder: &'static str,
    flags: &'static [&'static str],
    strip: &'static str,
}

pub(crate) const KERNEL: Part = Part {
    what: "kernel",
    package: "twizzler-kernel",
    folder: "kernel",
    flags: &["-Crelocation-model=static", "-Cforce-frame-pointers=yes"],
    // Its symbols go into the boot archive, for backtraces.
    strip: "none",
};

pub(crate) const PROGRAMS: Part =
    Part { what: "programs", package: "twizzler-programs", folder: "user", flags: &[], strip: "debuginfo" };

/// Compiles everything that changed.
///
/// # Errors
/// Something does not compile; the compiler's messages are on stderr.
pub fn build(way: &Way) -> Result<Built> {
    let mut kernel = compile(way, &KERNEL)?;
    let programs = compile(way, &PROGRAMS)?;
    let (_, kernel) = kernel.pop().context("the kernel's package made no program")?;
    Ok(Built { kernel, programs })
}

fn compile(way: &Way, part: &Part) -> Result<Vec<(String, PathBuf)>> {
    let what = part.what;
    let mut cargo = cargo(way, part, "build");
    cargo.args(["--release", "--bins", "--message-format=json-render-diagnostics"]);
    if !progress::watched() {
        cargo.arg("--quiet");
        if !paths::target().join("bare").join(part.folder).exists() {
            progress::say(format!("Building the {what} (takes longer the first time) ..."));
        }
    }
    let output = cargo.stderr(Stdio::inherit()).output().context("can't start cargo")?;
    if !output.status.success() {
        bail!("the {what} can't be built");
    }
    executables(&output.stdout).with_context(|| format!("cargo's report on the {what} makes no sense"))
}

/// Cargo for one part. Flags of the person's environment that are meant for other targets are left out.
pub(crate) fn cargo(way: &Way, part: &Part, verb: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut flags: Vec<String> = part.flags.iter().map(|&flag| flag.to_owned()).collect();
    for name in ["RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    if let Way::Debian { rustc, sysroot } = way {
        cargo.env("RUSTC", rustc).env_remove("LD_LIBRARY_PATH");
        flags.push("--sysroot".into());
        flags.push(sysroot.display().to_string());
    }
    cargo
        .current_dir(paths::root())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_STRIP", part.strip)
        .env("CARGO_TARGET_DIR", paths::target().join("bare").join(part.folder))
        .args([verb, "--target", TARGET, "--package", part.package])
        .stdin(Stdio::null());
    cargo
}

/// The programs that cargo reports, by name.
fn executables(report: &[u8]) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for line in report.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{")) {
        let message: Value = serde_json::from_slice(line)?;
        if let Some(file) = message["executable"].as_str() {
            let name = message["target"]["name"].as_str().context("a program without name")?;
            found.push((name.to_owned(), PathBuf::from(file)));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_taken_from_cargos_report() {
        let report = br#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"shell"},"executable":"/t/shell"}
{"reason":"compiler-artifact","target":{"name":"init"},"executable":"/t/init"}
{"reason":"build-finished","success":true}
"#;
        let names: Vec<String> =
            executables(report).expect("well formed").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["init", "shell"]);
    }
}
