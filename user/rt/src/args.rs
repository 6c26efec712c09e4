//! Arguments and variables of the program.

use alloc::string::String;
use alloc::vec::Vec;

use crate::startup;

/// The arguments; the first is the program's name.
#[must_use]
pub fn all() -> Vec<String> {
    startup::texts().0
}

/// The value of a variable.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    let find = |text: String| Some(text.strip_prefix(name)?.strip_prefix('=')?.into());
    startup::texts().1.into_iter().find_map(find)
}
