//! The command interpreter.

pub mod parse;
