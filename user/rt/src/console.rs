//! The console: buffered output, messages, input.
//!
//! Output is written when its buffer is full, before input is awaited, before a message is written and when
//! the program ends; messages are written at once. So both come in order where they go to one place.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;

use twizzler_abi::call::{ConsoleOp, TRANSFER_BYTES_MAX};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, Rights};

use crate::file::{FILE_BYTES_MAX, LEN_OFFSET};
use crate::mapping::Mapping;
use crate::sync::Mutex;
use crate::{args, call};

static OUTPUT: Mutex<Output> = Mutex::new(Output { kept: Vec::new(), place: None });

/// The variable that names the object that output goes to in place of the console.
pub(crate) const OUTPUT_VARIABLE: &str = "OUTPUT";

struct Output {
    /// What has not been written yet.
    kept: Vec<u8>,
    /// Where output goes; looked up when there is some for the first time.
    place: Option<Place>,
}

enum Place {
    Console,
    Object(Mapping),
}

impl Output {
    fn flush(&mut self) {
        if self.kept.is_empty() {
            return;
        }
        match self.place.get_or_insert_with(Place::find) {
            Place::Console => write_all(ConsoleOp::Write, &self.kept),
            Place::Object(object) => append(object, &self.kept),
        }
        self.kept.clear();
    }
}

impl Place {
    fn find() -> Self {
        let id = args::variable(OUTPUT_VARIABLE).and_then(|text| text.parse().ok());
        let object = id.and_then(|id| Mapping::new(id, Rights::READ | Rights::WRITE).ok());
        object.map_or(Self::Console, Self::Object)
    }
}

/// Writes to the end of a file that only this program writes. What doesn't fit is lost.
fn append(object: &Mapping, bytes: &[u8]) {
    let len = object.len_bytes();
    let part = &bytes[..bytes.len().min((FILE_BYTES_MAX - len) as usize)];
    object.write(BASE_OFFSET + len, part);
    object.word(LEN_OFFSET).store(len + part.len() as u64, Ordering::Release);
}

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
    output.kept.extend_from_slice(bytes);
    if output.kept.len() >= TRANSFER_BYTES_MAX as usize {
        output.flush();
    }
}

/// Writes a message.
pub fn write_message(bytes: &[u8]) {
    flush();
    write_all(ConsoleOp::WriteError, bytes);
}

/// Writes out what output was kept back.
pub fn flush() {
    OUTPUT.lock().flush();
}

/// The same, where the program is about to end and a thread may have died with the lock held.
pub(crate) fn flush_at_end() {
    if let Some(mut output) = OUTPUT.try_lock() {
        output.flush();
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
