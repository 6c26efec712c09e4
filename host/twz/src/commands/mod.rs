//! The commands. Each is a function of an open store and its arguments, and gives an [`crate::answer::Answer`].

pub mod backup;
pub mod change;
pub mod check;
pub mod content;
pub mod create;
pub mod export;
pub mod gc;
pub mod import;
pub mod list;
mod maker;
pub mod repair;
pub mod show;
pub mod stat;
