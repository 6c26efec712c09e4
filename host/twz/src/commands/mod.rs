//! The commands. Each is a function of an open store and its arguments, and gives an [`crate::answer::Answer`].

pub mod change;
pub mod content;
pub mod create;
pub mod list;
pub mod show;
pub mod stat;
