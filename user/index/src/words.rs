//! Cuts a text into words.
//!
//! A word is a longest run of letters and digits ([`char::is_alphanumeric`]), in lower case
//! ([`char::to_lowercase`], character by character, so that the result depends on nothing around it).
//! Lines end at `\n` and count from 1. The text comes in pieces that may end anywhere, even within a
//! character.

use alloc::vec::Vec;

/// The text is not UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotUtf8 {
    /// Offset of the first byte that belongs to no character.
    pub at: u64,
}

/// What each ASCII byte is: 0 separates words; [`NEWLINE`]; [`BEYOND`]; otherwise the byte in lower case.
const CLASS: [u8; 256] = classes();
const NEWLINE: u8 = b'\n';
const BEYOND: u8 = 0x80;

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = if b.is_ascii_alphanumeric() {
            b.to_ascii_lowercase()
        } else if b == NEWLINE {
            NEWLINE
        } else if b >= 0x80 {
            BEYOND
        } else {
            0
        };
        byte += 1;
    }
    table
}

/// The cutter's state between two pieces.
pub struct Words {
    /// The word so far.
    word: Vec<u8>,
    /// A character's first bytes, cut off by the end of a piece.
    cut: [u8; 4],
    cut_len: usize,
    /// Bytes before the next piece.
    at: u64,
    line: u32,
}

impl Default for Words {
    fn default() -> Self {
        Self::new()
    }
}

impl Words {
    /// At the start of a text.
    #[must_use]
    pub fn new() -> Self {
        Self { word: Vec::new(), cut: [0; 4], cut_len: 0, at: 0, line: 1 }
    }

    /// Cuts the next piece; hands each word that is complete to `found`, with its line.
    ///
    /// # Errors
    /// [`NotUtf8`] where the text isn't; words before that place may have been found.
    pub fn feed(&mut self, mut piece: &[u8], mut found: impl FnMut(&[u8], u32)) -> Result<(), NotUtf8> {
        while self.cut_len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return Ok(()) };
            self.cut[self.cut_len] = byte;
            let (cut, len) = (self.cut, self.cut_len + 1);
            match core::str::from_utf8(&cut[..len]) {
                Ok(text) => {
                    self.cut_len = 0;
                    self.text(text, &mut found);
                }
                Err(e) if e.error_len().is_some() => {
                    return Err(NotUtf8 { at: self.at - self.cut_len as u64 });
                }
                Err(_) => self.cut_len = len,
            }
            self.at += 1;
            piece = rest;
        }
        let text = match core::str::from_utf8(piece) {
            Ok(text) => text,
            Err(e) => {
                if e.error_len().is_some() {
                    return Err(NotUtf8 { at: self.at + e.valid_up_to() as u64 });
                }
                let (whole, cut) = piece.split_at(e.valid_up_to());
                self.cut[..cut.len()].copy_from_slice(cut);
                self.cut_len = cut.len();
                core::str::from_utf8(whole).expect("valid up to here")
            }
        };
        self.text(text, &mut found);
        self.at += piece.len() as u64;
        Ok(())
    }

    /// Ends the text.
    ///
    /// # Errors
    /// [`NotUtf8`] where the text ends within a character.
    pub fn finish(mut self, mut found: impl FnMut(&[u8], u32)) -> Result<(), NotUtf8> {
        if self.cut_len > 0 {
            return Err(NotUtf8 { at: self.at - self.cut_len as u64 });
        }
        self.end_word(&mut found);
        Ok(())
    }

    fn text(&mut self, text: &str, found: &mut impl FnMut(&[u8], u32)) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match CLASS[usize::from(byte)] {
                BEYOND => {
                    let c = text[at..].chars().next().expect("a character starts here");
                    if c.is_alphanumeric() {
                        self.push_lower(c);
                    } else {
                        self.end_word(found);
                    }
                    at += c.len_utf8();
                    continue;
                }
                0 => self.end_word(found),
                NEWLINE => {
                    self.end_word(found);
                    self.line = self.line.saturating_add(1);
                }
                lower => self.word.push(lower),
            }
            at += 1;
        }
    }

    fn push_lower(&mut self, c: char) {
        for lower in c.to_lowercase() {
            let mut buffer = [0; 4];
            self.word.extend_from_slice(lower.encode_utf8(&mut buffer).as_bytes());
        }
    }

    fn end_word(&mut self, found: &mut impl FnMut(&[u8], u32)) {
        if !self.word.is_empty() {
            found(&self.word, self.line);
            self.word.clear();
        }
    }
}

/// What somebody searches for, as it stands in the index: None where it is not exactly one word.
#[must_use]
pub fn normalise(word: &str) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    let mut words = Words::new();
    words.feed(word.as_bytes(), |w, _| all.push(w.to_vec())).ok()?;
    words.finish(|w, _| all.push(w.to_vec())).ok()?;
    if all.len() == 1 { all.pop() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::{format, vec};
    use proptest::prelude::*;

    fn naive(text: &str) -> Vec<(String, u32)> {
        let mut all = Vec::new();
        for (i, line) in text.split('\n').enumerate() {
            for word in line.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
                all.push((word.chars().flat_map(char::to_lowercase).collect(), i as u32 + 1));
            }
        }
        all
    }

    fn cut(pieces: &[&[u8]]) -> Result<Vec<(String, u32)>, NotUtf8> {
        let mut all = Vec::new();
        let mut words = Words::new();
        let mut found = |w: &[u8], line| all.push((String::from_utf8(w.to_vec()).expect("UTF-8"), line));
        for piece in pieces {
            words.feed(piece, &mut found)?;
        }
        words.finish(&mut found)?;
        Ok(all)
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_naive_cutter(text in "(\\PC|[a-zA-Z ÄßÉİΣς\n])*", cuts: Vec<u8>) {
            let mut rest = text.as_bytes();
            let mut pieces = vec![];
            for c in cuts {
                let (head, tail) = rest.split_at(rest.len().min(usize::from(c) % 9));
                pieces.push(head);
                rest = tail;
            }
            pieces.push(rest);
            prop_assert_eq!(cut(&pieces), Ok(naive(&text)));
        }

        #[test]
        fn errors_name_the_same_offset_however_cut(bytes: Vec<u8>, piece in 1usize..5) {
            let whole = core::str::from_utf8(&bytes).err().map(|e| e.valid_up_to() as u64);
            let got = cut(&bytes.chunks(piece).collect::<Vec<_>>()).err().map(|e| e.at);
            prop_assert_eq!(got, whole);
        }
    }

    #[test]
    fn searches_are_normalised_like_texts() {
        assert_eq!(normalise("Straße"), Some("straße".into()));
        assert_eq!(normalise("ÉTÉ"), Some("été".into()));
        assert_eq!(normalise("a-b"), None);
        assert_eq!(normalise(" ... "), None);
        assert_eq!(normalise(&format!("{}!", "x".repeat(1000))), Some(vec![b'x'; 1000]));
    }
}
