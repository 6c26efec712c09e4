//! The console: buffered output, messages, input.
//!
//! Output is written when its buffer is full, before input is awaited, before a message is written and when
//! the program ends; messages are written at once. So both come in order where they go to one place.

use alloc::vec::Vec;
use core::fmt;

use twizzler_abi::Error;
use twizzler_abi::call::{ConsoleOp, TRANSFER_BYTES_MAX};

use crate::call;
use crate::sync::Mutex;

static OUTPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn write_all(op: ConsoleOp, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match call::console_write(op, bytes) {
            Ok(0) | Err(_) => return,
            Ok(moved) => bytes = &bytes[moved..],
        }
    }
}

/// Output, for [`fmt::Write`].
#[derive(Debug)]
pub struct Out;

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Messages, for [`fmt::Write`].
#[derive(Debug)]
pub struct Messages;

impl fmt::Write for Messages {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_message(text.as_bytes());
        Ok(())
    }
}

/// Writes output.
pub fn write(bytes: &[u8]) {
    let mut output = OUTPUT.lock();
    output.extend_from_slice(bytes);
    if output.len() >= TRANSFER_BYTES_MAX as usize {
        write_all(ConsoleOp::Write, &output);
        output.clear();
    }
}

/// Writes a message.
pub fn write_message(bytes: &[u8]) {
    flush();
    write_all(ConsoleOp::WriteError, bytes);
}

/// Writes out what output was kept back.
pub fn flush() {
    let mut output = OUTPUT.lock();
    write_all(ConsoleOp::Write, &output);
    output.clear();
}

/// The same, where the program is about to end and a thread may have died with the lock held.
pub(crate) fn flush_at_end() {
    if let Some(mut output) = OUTPUT.try_lock() {
        write_all(ConsoleOp::Write, &output);
        output.clear();
    }
}

/// Waits for input; returns how much came.
///
/// # Errors
/// The kernel's reason.
pub fn read(bytes: &mut [u8]) -> Result<usize, Error> {
    flush();
    call::console_read(bytes)
}

/// Writes formatted output.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        let _ = write!($crate::console::Out, $($argument)*);
    }};
}

/// Writes formatted output and a line's end.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!($crate::console::Out, $($argument)*);
    }};
}

/// Writes a formatted message.
#[macro_export]
macro_rules! eprint {
    ($($argument:tt)*) => { $crate::console::write_message($crate::__format!($($argument)*).as_bytes()) };
}

/// Writes a formatted message and a line's end.
#[macro_export]
macro_rules! eprintln {
    () => { $crate::console::write_message(b"\n") };
    ($($argument:tt)*) => {{
        let mut message = $crate::__format!($($argument)*);
        message.push('\n');
        $crate::console::write_message(message.as_bytes());
    }};
}
