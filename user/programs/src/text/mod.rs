//! Text for people: tables, sizes, times, dumps.

mod dump;
mod table;
mod units;

pub use dump::dump_line;
pub use table::{Table, columns};
pub use units::{bytes, duration};

/// Columns that a character takes at a terminal. A rough rule that knows combining marks and the wide blocks of
/// East Asian scripts and pictures (Unicode Standard Annex 11).
#[must_use]
pub const fn char_width(c: char) -> usize {
    match c as u32 {
        0..0x20 | 0x7f | 0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Columns that a text takes at a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}
