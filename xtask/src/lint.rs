//! `lint`: clippy for what runs on bare metal, warnings being errors.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::build::{KERNEL, PROGRAMS, Part, cargo};
use crate::progress::say;
use crate::setup::{self, Way};

/// Checks the kernel and the programs.
///
/// # Errors
/// Something is wrong with them; clippy's messages are on stderr.
pub fn run() -> Result<u8> {
    const DRIVER: &str = "/usr/bin/clippy-driver";
    let way = setup::way()?;
    if matches!(way, Way::Debian { .. }) && !Path::new(DRIVER).exists() {
        setup::packages("Clippy for Debian's compiler", &["rust-web-clippy"])?;
    }
    for part in [&KERNEL, &PROGRAMS] {
        check(&way, part, DRIVER)?;
        say(format!("Clippy finds nothing wrong with the {}", part.what));
    }
    Ok(0)
}

fn check(way: &Way, part: &Part, driver: &str) -> Result<()> {
    // Debian's clippy is no component of the cargo that runs here, so it stands in for the compiler, as
    // `cargo clippy` itself arranges it.
    let mut cargo = match way {
        Way::Rustup => cargo(way, part, "clippy"),
        Way::Debian { .. } => {
            let mut cargo = cargo(way, part, "check");
            cargo.env("RUSTC_WORKSPACE_WRAPPER", driver);
            cargo.env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__");
            cargo
        }
    };
    cargo.args(["--quiet", "--release", "--bins"]);
    if *way == Way::Rustup {
        cargo.args(["--", "-Dwarnings"]);
    }
    let status = cargo.stderr(Stdio::inherit()).status().context("can't start cargo")?;
    if !status.success() {
        bail!("the {} must be mended", part.what);
    }
    Ok(())
}
