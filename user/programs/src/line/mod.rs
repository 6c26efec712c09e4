//! Editing a line at a terminal.
//!
//! [`Keys`] turns bytes into keys, [`Editor`] keys into an edited line and the text that shows it, with
//! [`History`]; [`complete`] finds how a word may go on. Nothing here reads or writes.

pub mod complete;
mod editor;
mod history;
mod keys;

pub use editor::{Editor, Event};
pub use history::History;
pub use keys::{Key, Keys};
