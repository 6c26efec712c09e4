//! The one command of this repository: `cargo run` boots the system; `cargo run -- help` lists the rest.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::cli::main()
}
