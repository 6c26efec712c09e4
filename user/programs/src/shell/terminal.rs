//! The shell at a terminal: reads keys, shows the line, completes words, keeps the history.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use twizzler_abi::call::StatOp;
use twizzler_names::Entry;
use twizzler_rt::{call, console, exit, file, print, println};

use super::{Shell, builtin, program};
use crate::line::complete::{self, Completion};
use crate::line::{Editor, Event, History, Key, Keys};
use crate::text::columns;

/// Where the history is kept.
const HISTORY_NAME: &str = ".history";
/// Bytes of history from which on it is written anew, without what is too old.
const HISTORY_BYTES_MAX: u64 = 64 << 10;
/// Lets the terminal wrap long lines, which firmware switches off, and asks it how wide it is: to the far right,
/// where is the cursor, back.
const SET_UP: &str = "\x1b[?7h\x1b7\x1b[999C\x1b[6n\x1b8";

/// The terminal's state between lines.
struct Terminal {
    editor: Editor,
    keys: Keys,
    /// What was typed and not looked at yet.
    input: VecDeque<u8>,
}

impl Shell<'_> {
    /// Reads and runs lines until `exit`; returns the status to end with.
    pub fn interact(&mut self) -> u64 {
        let history = self.object(HISTORY_NAME).ok().and_then(|id| file::read(id).ok()).unwrap_or_default();
        let editor = Editor::new(History::from_text(&String::from_utf8_lossy(&history)));
        let mut terminal = Terminal { editor, keys: Keys::default(), input: VecDeque::new() };
        print!("{SET_UP}");
        while !self.leaving {
            let Some(line) = self.read_line(&mut terminal) else { return exit::FAILURE };
            if !line.trim().is_empty() {
                self.keep_history(terminal.editor.history());
                self.run(&line);
            }
        }
        self.status
    }

    /// Adds the history's last line to the object that keeps it; writes it anew when that has become long.
    fn keep_history(&self, history: &History) {
        // Without NVM there is nowhere to keep it, which `nvm` says.
        let Ok(directory) = self.directory() else { return };
        let kept =
            self.object(HISTORY_NAME).ok().and_then(|id| Some((id, call::stat(StatOp::Object, id).ok()?)));
        let _ = match (kept, history.last()) {
            (Some((id, stat)), Some(line)) if stat.len_bytes < HISTORY_BYTES_MAX => {
                directory.append(id, format!("{line}\n").as_bytes()).map_err(|_| ())
            }
            _ => self.replace(HISTORY_NAME, history.to_text().as_bytes()).map_err(|_| ()),
        };
    }

    fn prompt(&self) -> (String, usize) {
        let text = match self.status {
            exit::SUCCESS => String::from("twizzler> "),
            status => format!("twizzler [{status}]> "),
        };
        let columns = text.len();
        (format!("\x1b[1m{text}\x1b[0m"), columns)
    }

    /// None: there will be no more input.
    fn read_line(&mut self, terminal: &mut Terminal) -> Option<String> {
        let (prompt, prompt_columns) = self.prompt();
        loop {
            if terminal.input.is_empty() {
                print!("{}", terminal.editor.render(&prompt, prompt_columns));
                let mut bytes = [0; 256];
                let len = console::read(&mut bytes).ok()?;
                terminal.input.extend(&bytes[..len]);
            }
            let Some(byte) = terminal.input.pop_front() else { continue };
            let Some(key) = terminal.keys.push(byte) else { continue };
            if key == Key::Ctrl('c') && self.interrupts_handled > 0 {
                // It has ended a program, and is now read as well.
                self.interrupts_handled -= 1;
                continue;
            }
            match terminal.editor.key(key) {
                Event::Redraw => {}
                Event::Line(line) => {
                    println!("\r{prompt}{line}\x1b[K");
                    return Some(line);
                }
                Event::Interrupt => println!("^C"),
                Event::End => {
                    println!("exit");
                    return Some(String::from("exit 0"));
                }
                Event::Clear => print!("\x1b[H\x1b[2J"),
                Event::Complete => self.complete(&mut terminal.editor),
            }
        }
    }

    /// Completes the word before the cursor, or lists what it may become.
    fn complete(&self, editor: &mut Editor) {
        let before = editor.before_cursor();
        let word = complete::word(&before);
        match complete::complete(word.text, self.candidates(&word)) {
            Completion::Nothing => {}
            Completion::Insert(text) => editor.insert(&text),
            Completion::Choices(choices) => {
                println!();
                columns(&choices, 80).iter().for_each(|line| println!("{line}"));
            }
        }
    }

    fn candidates(&self, word: &complete::Word<'_>) -> Vec<String> {
        let mut candidates = self.name_candidates(word.text);
        if word.first || ["run", "time", "help"].contains(&word.command) {
            candidates.extend(builtin::names().map(String::from));
            candidates.extend(program::archived());
        }
        candidates
    }

    /// Names in the directory that `text` stands in, with that directory before them.
    fn name_candidates(&self, text: &str) -> Vec<String> {
        let Ok(directory) = self.directory() else { return Vec::new() };
        let (path, part) = text.rsplit_once('/').unwrap_or(("", text));
        let before = &text[..text.len() - part.len()];
        let entries = directory.list(path).unwrap_or_default();
        let shown = entries.into_iter().filter(|(name, _)| part.starts_with('.') || !name.starts_with('.'));
        shown
            .map(|(name, entry)| {
                format!("{before}{name}{}", if entry == Entry::Directory { "/" } else { "" })
            })
            .collect()
    }
}
