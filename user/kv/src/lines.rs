//! Files of entries: lines of `KEY<TAB>VALUE`.
//!
//! The key ends at the first tab, the value at the end of the line; neither can hold a line's end, and a key no tab. All other
//! bytes are taken as they are. The last line may lack its end; empty lines are skipped.

/// A line without a tab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
}

/// Goes through the entries of a file.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: &'a [u8],
    line: u64,
}

impl<'a> Lines<'a> {
    /// The entries of a file with this content.
    #[must_use]
    pub const fn new(content: &'a [u8]) -> Self {
        Self { rest: content, line: 0 }
    }

    /// Number of the line that was read last.
    #[must_use]
    pub const fn line(&self) -> u64 {
        self.line
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), BadLine>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = self.rest.iter().position(|&b| b == b'\n');
            let (line, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
            self.rest = rest.get(1..).unwrap_or(&[]);
            self.line += 1;
            if line.is_empty() {
                continue;
            }
            let entry = line.iter().position(|&b| b == b'\t').map(|tab| (&line[..tab], &line[tab + 1..]));
            return Some(entry.ok_or(BadLine { line: self.line }));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn entries_are_cut_at_the_first_tab() {
        let read: Vec<_> = Lines::new(b"a\t1\n\nb\tx\ty\n\tempty key\nc\t\nd\t4").collect();
        let wanted: [(&[u8], &[u8]); 5] =
            [(b"a", b"1"), (b"b", b"x\ty"), (b"", b"empty key"), (b"c", b""), (b"d", b"4")];
        assert!(read.into_iter().eq(wanted.map(Ok)));
    }

    #[test]
    fn a_line_without_tab_is_named() {
        let mut lines = Lines::new(b"a\t1\n\nnothing\nb\t2\n");
        assert_eq!(lines.nth(1), Some(Err(BadLine { line: 3 })));
        assert_eq!(lines.next(), Some(Ok((b"b".as_slice(), b"2".as_slice()))));
    }
}
