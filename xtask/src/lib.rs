//! Builds, runs, tests and measures Twizzler, all from cargo.
//!
//! `setup` finds or installs the tools, `build` compiles kernel and programs, `archive` packs them,
//! `qemu` is one run of the machine, and `run` is the command that puts these together. What the tests
//! in `xtask/tests` need beyond that is in `testing`.
#![forbid(unsafe_code)]

pub mod abi_reference;
pub mod accel;
pub mod archive;
pub mod bench;
pub mod build;
pub mod check;
pub mod cli;
pub mod console;
pub mod corpus;
pub mod crashsim;
pub mod lint;
pub mod loc;
pub mod mutants;
pub mod naive;
pub mod nvm;
pub mod paths;
pub mod powercut;
pub mod progress;
pub mod qemu;
pub mod random;
pub mod run;
pub mod sanitize;
pub mod setup;
pub mod status;
pub mod symbols;
pub mod terminal;
pub mod transfer;
