//! The line being edited, and what shows it on a terminal.
//!
//! A line that is wider than the terminal scrolls sideways, so that it always takes one row.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::history::History;
use super::keys::Key;
use crate::text::char_width;

/// What a key has led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Show the line again.
    Redraw,
    /// The line is complete.
    Line(String),
    /// Forget the line.
    Interrupt,
    /// There will be no more lines.
    End,
    /// Complete the word before the cursor.
    Complete,
    /// Clear the screen and show the line again.
    Clear,
}

/// A search through the history.
#[derive(Debug)]
struct Search {
    query: String,
    /// The line found.
    at: Option<usize>,
    /// The last try has found one.
    found: bool,
    /// What the line was before.
    saved: Vec<char>,
}

/// Edits one line after the other.
#[derive(Debug)]
pub struct Editor {
    text: Vec<char>,
    /// Characters before the cursor.
    cursor: usize,
    /// What was cut last.
    cut: Vec<char>,
    history: History,
    /// The line of history that is shown; the number of lines: none.
    shown: usize,
    /// The new line, while one of history is shown.
    draft: Vec<char>,
    search: Option<Search>,
    columns: usize,
}

/// Columns of a terminal that doesn't tell.
const COLUMNS_USUAL: usize = 80;

impl Editor {
    /// An empty line after this history.
    #[must_use]
    pub fn new(history: History) -> Self {
        Self {
            shown: history.len(),
            history,
            text: Vec::new(),
            cursor: 0,
            cut: Vec::new(),
            draft: Vec::new(),
            search: None,
            columns: COLUMNS_USUAL,
        }
    }

    /// The lines entered so far.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// What stands before the cursor.
    #[must_use]
    pub fn before_cursor(&self) -> String {
        self.text[..self.cursor].iter().collect()
    }

    /// Inserts at the cursor.
    pub fn insert(&mut self, text: &str) {
        for c in text.chars() {
            self.text.insert(self.cursor, c);
            self.cursor += 1;
        }
    }

    /// Takes a key.
    pub fn key(&mut self, key: Key) -> Event {
        if let Some(search) = self.search.take() {
            return self.search_key(search, key);
        }
        match key {
            Key::Enter => return self.finish(),
            Key::Tab => return Event::Complete,
            Key::Ctrl('c') => {
                self.clear();
                return Event::Interrupt;
            }
            Key::Ctrl('d') if self.text.is_empty() => return Event::End,
            Key::Ctrl('l') => return Event::Clear,
            Key::Ctrl('r') => self.start_search(),
            Key::Up | Key::Ctrl('p') => self.show(self.shown.checked_sub(1)),
            Key::Down | Key::Ctrl('n') => self.show(Some(self.shown + 1)),
            Key::Column(column) => self.columns = column.max(20),
            Key::Char(c) => {
                self.text.insert(self.cursor, c);
                self.cursor += 1;
            }
            other => self.edit(other),
        }
        Event::Redraw
    }

    /// Keys that move or remove.
    fn edit(&mut self, key: Key) {
        let end = self.text.len();
        match key {
            Key::Left | Key::Ctrl('b') => self.cursor = self.cursor.saturating_sub(1),
            Key::Right | Key::Ctrl('f') => self.cursor = (self.cursor + 1).min(end),
            Key::Home | Key::Ctrl('a') => self.cursor = 0,
            Key::End | Key::Ctrl('e') => self.cursor = end,
            Key::WordLeft | Key::Alt('b') => self.cursor = self.word_start(),
            Key::WordRight | Key::Alt('f') => self.cursor = self.word_end(),
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.text.remove(self.cursor);
            }
            Key::Delete | Key::Ctrl('d') if self.cursor < end => drop(self.text.remove(self.cursor)),
            Key::Ctrl('k') => self.remove(self.cursor, end),
            Key::Ctrl('u') => self.remove(0, self.cursor),
            Key::Ctrl('w') => self.remove(self.blank_word_start(), self.cursor),
            Key::Alt('d') => self.remove(self.cursor, self.word_end()),
            Key::Ctrl('y') => {
                let cut: String = self.cut.iter().collect();
                self.insert(&cut);
            }
            Key::Ctrl('t') if self.cursor > 0 && end > 1 => {
                self.cursor = self.cursor.min(end - 1);
                self.text.swap(self.cursor - 1, self.cursor);
                self.cursor += 1;
            }
            _ => {}
        }
    }

    fn remove(&mut self, from: usize, to: usize) {
        let cut: Vec<char> = self.text.drain(from..to).collect();
        if !cut.is_empty() {
            self.cut = cut;
        }
        self.cursor = from;
    }

    fn word_start(&self) -> usize {
        let skipped = self.text[..self.cursor].iter().rposition(|c| c.is_alphanumeric());
        skipped.map_or(0, |last| {
            self.text[..last].iter().rposition(|c| !c.is_alphanumeric()).map_or(0, |at| at + 1)
        })
    }

    fn word_end(&self) -> usize {
        let rest = &self.text[self.cursor..];
        let start = rest.iter().position(|c| c.is_alphanumeric()).unwrap_or(rest.len());
        let len = rest[start..].iter().position(|c| !c.is_alphanumeric()).unwrap_or(rest.len() - start);
        self.cursor + start + len
    }

    fn blank_word_start(&self) -> usize {
        let last = self.text[..self.cursor].iter().rposition(|c| *c != ' ');
        last.map_or(0, |last| self.text[..last].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1))
    }

    fn clear(&mut self) {
        self.text.clear();
        self.cursor = 0;
        self.shown = self.history.len();
    }

    fn finish(&mut self) -> Event {
        let line: String = self.text.iter().collect();
        self.history.push(&line);
        self.clear();
        Event::Line(line)
    }

    /// Shows a line of history, or the new one beyond the last.
    fn show(&mut self, index: Option<usize>) {
        let Some(index) = index.filter(|&index| index <= self.history.len()) else { return };
        if self.shown == self.history.len() {
            self.draft = self.text.clone();
        }
        self.text = self.history.get(index).map_or_else(|| self.draft.clone(), |line| line.chars().collect());
        self.shown = index;
        self.cursor = self.text.len();
    }

    fn start_search(&mut self) {
        let saved = self.text.clone();
        self.search = Some(Search { query: String::new(), at: None, found: true, saved });
    }

    fn search_key(&mut self, mut search: Search, key: Key) -> Event {
        let before = match key {
            Key::Char(c) => {
                search.query.push(c);
                search.at.map_or(self.history.len(), |at| at + 1)
            }
            Key::Backspace => {
                search.query.pop();
                self.history.len()
            }
            Key::Ctrl('r') => search.at.unwrap_or(self.history.len()),
            Key::Ctrl('c' | 'g') => {
                self.text = search.saved;
                self.cursor = self.text.len();
                return Event::Redraw;
            }
            other => return self.key(other),
        };
        let found = self.history.find(&search.query, before);
        search.found = found.is_some();
        if let Some(at) = found {
            search.at = Some(at);
            self.show(Some(at));
        }
        self.search = Some(search);
        Event::Redraw
    }

    /// What shows the line: `prompt`, which takes `prompt_columns`, and the text, with the cursor in its place.
    #[must_use]
    pub fn render(&self, prompt: &str, prompt_columns: usize) -> String {
        let (prompt, columns) = match &self.search {
            Some(search) => {
                let what = if search.found { "search" } else { "no match" };
                let prompt = format!("{what} `{}`: ", search.query);
                let columns = prompt.chars().map(char_width).sum();
                (prompt, columns)
            }
            None => (prompt.into(), prompt_columns),
        };
        let room = self.columns.saturating_sub(columns + 1).max(8);
        let (visible, cursor) = self.window(room);
        let place = match columns + cursor {
            0 => String::new(),
            right => format!("\x1b[{right}C"),
        };
        format!("\r{prompt}{visible}\x1b[K\r{place}")
    }

    /// The part of the text around the cursor that fits in `room` columns, and the cursor's column in it.
    fn window(&self, room: usize) -> (String, usize) {
        let width = |chars: &[char]| chars.iter().copied().map(char_width).sum::<usize>();
        let mut start = 0;
        while width(&self.text[start..self.cursor]) > room {
            start += 1;
        }
        let mut taken = 0;
        let visible = self.text[start..]
            .iter()
            .take_while(|c| {
                taken += char_width(**c);
                taken <= room
            })
            .collect();
        (visible, width(&self.text[start..self.cursor]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Keys;
    use alloc::vec;
    use proptest::prelude::*;

    /// The lines that these bytes enter.
    fn type_into(editor: &mut Editor, bytes: &[u8]) -> Vec<Event> {
        let mut keys = Keys::default();
        let events = bytes.iter().filter_map(|&byte| Some(editor.key(keys.push(byte)?)));
        events.filter(|event| *event != Event::Redraw).collect()
    }

    fn line(bytes: &[u8]) -> String {
        let mut editor = Editor::new(History::from_text("first\nsecond one\nthird\n"));
        match type_into(&mut editor, bytes).as_slice() {
            [Event::Line(line)] => line.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn text_is_edited() {
        assert_eq!(line(b"abc\x1b[D\x1b[DX\r"), "aXbc");
        assert_eq!(line(b"abc\x01X\x05Y\x7f\r"), "Xabc");
        assert_eq!(line(b"abc\x1b[H\x1b[3~\x1b[Fd\r"), "bcd");
        assert_eq!(line(b"one two  \x17three\r"), "one three");
        assert_eq!(line(b"one two\x15\x19\x19\r"), "one twoone two");
        assert_eq!(line(b"one two\x1b[1;5D\x0bx\r"), "one x");
        assert_eq!(line(b"one two\x1bb\x1bb\x1bd\x05!\r"), " two!");
        assert_eq!(line(b"ab\x14\r"), "ba");
        assert_eq!(line("zwölf\x7f\x7fö\r".as_bytes()), "zwöö");
    }

    #[test]
    fn history_is_walked() {
        assert_eq!(line(b"\x1b[A\r"), "third");
        assert_eq!(line(b"\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\r"), "first");
        assert_eq!(line(b"draft\x1b[A\x1b[A\x1b[B\x1b[B\x1b[B!\r"), "draft!");
        assert_eq!(line(b"\x1b[A\x1b[A!\r"), "second one!");
    }

    #[test]
    fn history_is_searched() {
        assert_eq!(line(b"\x12ir\r"), "third");
        assert_eq!(line(b"\x12ir\x12\r"), "first");
        assert_eq!(line(b"\x12one\x1b[F!\r"), "second one!");
        assert_eq!(line(b"abc\x12ir\x03\r"), "abc");
        assert_eq!(line(b"abc\x12zzz\r"), "abc");
    }

    #[test]
    fn special_keys_are_told() {
        let mut editor = Editor::new(History::default());
        assert_eq!(
            type_into(&mut editor, b"a\t\x0c\x03\x04"),
            [Event::Complete, Event::Clear, Event::Interrupt, Event::End]
        );
        assert_eq!(type_into(&mut editor, b"ab\x02\x04\r"), [Event::Line("a".into())]);
    }

    #[test]
    fn the_line_is_shown_in_one_row() {
        let mut editor = Editor::new(History::default());
        assert_eq!(editor.render("> ", 2), "\r> \x1b[K\r\x1b[2C");
        type_into(&mut editor, b"\x1b[1;21R\x1b[1;30Rhello\x1b[D");
        assert_eq!(editor.render("> ", 2), "\r> hello\x1b[K\r\x1b[6C");
        editor.key(Key::Column(20));
        type_into(&mut editor, b"\x05 world and much more");
        assert_eq!(editor.render("> ", 2), "\r> rld and much more\x1b[K\r\x1b[19C");
        type_into(&mut editor, b"\x01");
        assert_eq!(editor.render("> ", 2), "\r> hello world and m\x1b[K\r\x1b[2C");
        let mut wide = Editor::new(History::default());
        wide.insert("日本");
        assert_eq!(wide.render("> ", 2), "\r> 日本\x1b[K\r\x1b[6C");
    }

    proptest! {
        #[test]
        fn any_keys_leave_a_line(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..0x20, Just(0x1b)], 0..200)) {
            let mut editor = Editor::new(History::from_text("a b\nc\n"));
            let mut keys = Keys::default();
            for byte in bytes {
                if let Some(key) = keys.push(byte) {
                    editor.key(key);
                }
                prop_assert!(editor.cursor <= editor.text.len());
                let _ = editor.render("> ", 2);
            }
        }

        #[test]
        fn typed_text_comes_back(text in "[a-z ä-ü]{1,40}") {
            let mut editor = Editor::new(History::default());
            let events = type_into(&mut editor, (text.clone() + "\r").as_bytes());
            prop_assert_eq!(events, vec![Event::Line(text)]);
        }
    }
}
