//! Where a command's output goes.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use twizzler_rt::console;

/// The console, or memory for what is to become an object.
#[derive(Debug)]
pub(super) enum Output {
    /// The console.
    Console,
    /// All output so far.
    Kept(Vec<u8>),
}

impl Output {
    /// Writes bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        match self {
            Self::Console => console::write(bytes),
            Self::Kept(kept) => kept.extend_from_slice(bytes),
        }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.bytes(line.as_ref().as_bytes());
        self.bytes(b"\n");
    }

    /// Writes lines.
    pub(super) fn lines(&mut self, lines: impl IntoIterator<Item = String>) {
        lines.into_iter().for_each(|line| self.line(line));
    }
}

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
