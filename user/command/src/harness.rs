//! Runs commands as tests need them: each as a program of its own, over one backend.

use alloc::string::String;
use alloc::vec::Vec;

use twizzler_names::{NameError, Names};
use twizzler_object::{Backend, Space};

use crate::complaint::Streams;

/// A command: what `run` of a command's library is.
pub type Command<'b, B> = fn(&Space<&'b B>, &[&str], &mut Streams<'_>) -> u8;

/// A command over the objects of one backend.
pub struct Harness<'b, B: Backend> {
    backend: &'b B,
    command: Command<'b, B>,
}

impl<'b, B: Backend> Harness<'b, B> {
    /// Runs `command` over `backend`.
    pub const fn new(backend: &'b B, command: Command<'b, B>) -> Self {
        Self { backend, command }
    }

    /// A space of its own, as each program has.
    ///
    /// # Panics
    /// Where there is none.
    pub fn space(&self) -> Space<&'b B> {
        Space::attach(self.backend).expect("attached")
    }

    /// Runs the command as a program of its own: status, output, messages.
    ///
    /// # Panics
    /// Where it writes something else than UTF-8.
    pub fn run(&self, arguments: &[&str]) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            out: &mut |bytes| out.extend_from_slice(bytes),
            err: &mut |bytes| err.extend_from_slice(bytes),
        };
        let status = (self.command)(&self.space(), arguments, &mut streams);
        (status, String::from_utf8(out).expect("UTF-8"), String::from_utf8(err).expect("UTF-8"))
    }

    /// Runs the command; gives its output.
    ///
    /// # Panics
    /// Where the command fails.
    pub fn done(&self, arguments: &[&str]) -> String {
        let (status, out, err) = self.run(arguments);
        assert_eq!(status, 0, "{arguments:?}: {err}");
        out
    }

    /// Runs the command; gives its messages.
    ///
    /// # Panics
    /// Where the status is another, or there is output.
    pub fn refused(&self, arguments: &[&str], status: u8) -> String {
        let (got, out, err) = self.run(arguments);
        assert_eq!((got, out.as_str()), (status, ""), "{arguments:?}: {err}");
        err
    }

    /// Makes a named file.
    ///
    /// # Panics
    /// Where it can't be made.
    pub fn put(&self, name: &str, content: &[u8]) {
        let space = self.space();
        let guard = space.enter();
        let names = Names::open(&guard).expect("names");
        let made = guard.transact(|tx| {
            let file = names.create_any(tx, name)?;
            tx.write_at(file, 0, content)?;
            tx.set_len_bytes(file, content.len() as u64)?;
            Ok::<_, NameError>(())
        });
        made.expect("made");
    }
}
