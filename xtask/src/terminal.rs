//! The person's terminal, which QEMU sets to raw mode while the machine runs.

use std::io::{IsTerminal, Stdin, stdin};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Puts the terminal's settings back when dropped, however QEMU ended.
#[derive(Debug)]
pub struct Restored {
    terminal: Option<(Stdin, Termios)>,
}

impl Restored {
    /// Notes the settings, if stdin is a terminal.
    #[must_use]
    pub fn later() -> Self {
        let stdin = stdin();
        let settings = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
        Self { terminal: settings.map(|settings| (stdin, settings)) }
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        if let Some((stdin, settings)) = &self.terminal {
            let _ = tcsetattr(stdin, OptionalActions::Drain, settings);
        }
    }
}
