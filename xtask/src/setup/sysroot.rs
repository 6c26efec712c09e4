//! The library for bare metal, built once from the source that Debian ships with its compiler.
//!
//! Building the standard library needs cargo's `-Zbuild-std`; everything after that is plain stable Rust
//! with `--sysroot`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::apt;
use super::bare_metal::{TARGET, has_core, rustc_sysroot};
use crate::{paths, progress};

/// Debian's compiler.
pub(super) const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const LINKER: &str = "lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld";

/// Where the library lies.
pub(super) fn folder() -> PathBuf {
    paths::state().join("sysroot")
}

/// Whether the library is there and was built with the compiler that is installed now.
pub(super) fn is_current() -> bool {
    let folder = folder();
    let built_with = fs::read_to_string(folder.join("built-with")).ok();
    has_core(&folder)
        && folder.join(LINKER).exists()
        && built_with.is_some()
        && built_with == compiler_version()
}

/// Builds the library.
///
/// # Errors
/// The source is not the compiler's, or does not compile.
pub(super) fn build() -> Result<()> {
    let version = compiler_version().with_context(|| format!("{RUSTC} does not run"))?;
    let number = version.split_whitespace().nth(1).context("rustc tells no version")?.to_owned();
    let source = PathBuf::from(format!("/usr/src/rustc-{number}/library"));
    if !source.is_dir() {
        bail!(
            "rustc-web is of version {number}, but its source is not in {}: rust-web-src must be of the same version. Run\n    apt-get install --reinstall rustc-web cargo-web rust-web-src",
            source.display()
        );
    }
    let crate_folder = paths::state().join("sysroot-build");
    write_crate(&crate_folder)?;
    let what = format!("Building core and alloc {number} for bare metal (once)");
    progress::run(&what, &mut cargo(&crate_folder, &source))?;
    install(&crate_folder.join("target").join(TARGET).join("release/deps"), &version)?;
    let _ = fs::remove_dir_all(&crate_folder);
    Ok(())
}

fn compiler_version() -> Option<String> {
    let output =
        Command::new(RUSTC).arg("-V").env_remove("LD_LIBRARY_PATH").stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn write_crate(folder: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder.join("src"))?;
    let manifest = "[package]\nname = \"sysroot\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n\n\
                    [profile.release]\npanic = \"abort\"\n";
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/lib.rs"), "#![no_std]\n")?;
    Ok(())
}

fn cargo(folder: &Path, source: &Path) -> Command {
    let mut cargo = Command::new(CARGO);
    cargo.current_dir(folder);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO") || name.starts_with("RUSTUP") || name.starts_with("RUSTFLAGS") {
            cargo.env_remove(name);
        }
    }
    cargo.env_remove("LD_LIBRARY_PATH").env("RUSTC", RUSTC).env("RUSTC_BOOTSTRAP", "1");
    // Whatever settings the person's cargo has, they are not meant for this.
    cargo.env("CARGO_HOME", folder.join("home")).env("CARGO_TARGET_DIR", folder.join("target"));
    cargo.args(["build", "--release", "--offline", "--target", TARGET]);
    cargo.args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
    cargo.args(["--config", "source.crates-io.replace-with=\"lib\"", "--config"]);
    cargo.arg(format!("source.lib.directory=\"{}\"", source.join("vendor").display()));
    cargo
}

/// Puts the parts where `--sysroot` looks for them; the stamp comes last.
fn install(built: &Path, version: &str) -> Result<()> {
    let folder = folder();
    let _ = fs::remove_dir_all(&folder);
    let library = folder.join("lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&library)?;
    for name in ["core", "alloc", "compiler_builtins"] {
        let prefix = format!("lib{name}-");
        let file = fs::read_dir(built)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                file.starts_with(&prefix) && file.ends_with(".rlib")
            })
            .with_context(|| format!("the build made no {name}"))?;
        fs::copy(&file, library.join(file.file_name().expect("a file found has a name")))?;
    }
    let linker = folder.join(LINKER);
    fs::create_dir_all(linker.parent().expect("the linker lies in a folder"))?;
    std::os::unix::fs::symlink(find_linker()?, &linker)?;
    fs::write(folder.join("built-with"), version)?;
    Ok(())
}

/// LLVM's linker: rustup's, or Debian's.
fn find_linker() -> Result<PathBuf> {
    let rustups = rustc_sysroot().map(|sysroot| sysroot.join(LINKER)).filter(|linker| linker.exists());
    if let Some(linker) = rustups.or_else(|| paths::which("ld.lld")) {
        return Ok(linker);
    }
    apt::install("LLVM's linker", &["lld"])?;
    paths::which("ld.lld").context("lld is installed, but ld.lld is not in PATH")
}
