//! `twz`: the command-line tool for stores, in NVM images and in directories alike.
//!
//! - [`open`]: from a path to an open store; [`medium`]: what commands ask of one, whatever it lies in.
//! - [`commands`]: each a function of an open store, generic over the medium.
//! - [`answer`], [`status`]: what is said, for people and as JSON, and the exit status.
//!
//! The command line, the JSON, the exit statuses and the archives are contracts: `docs/twz.md`.
#![forbid(unsafe_code)]

pub mod answer;
pub mod archive;
pub mod cli;
pub mod commands;
pub mod copy;
pub mod files;
pub mod graph;
pub mod medium;
pub mod object;
pub mod open;
pub mod out;
pub mod paths;
pub mod progress;
pub mod size;
pub mod status;
pub mod typed;

pub use cli::main;
