//! The kernel's log, to COM2: `[seconds cpu] LEVEL message`.

use core::fmt::{self, Write};

use ::log::{LevelFilter, Log, Metadata, Record};

use crate::machine::serial::{self, Serial};
use crate::machine::{clock, cpu};

struct KernelLog;

impl Log for KernelLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = Line { bytes: [0; LINE_BYTES], len: 0 };
        let ns = clock::now_ns();
        // Writing to a line can't fail: what doesn't fit is cut off.
        let _ = writeln!(
            line,
            "[{}.{:06} {}] {:5} {}",
            ns / 1_000_000_000,
            ns / 1000 % 1_000_000,
            cpu::index_or_0(),
            record.level(),
            record.args()
        );
        line.bytes[line.len - 1] = b'\n';
        serial::log().write(&line.bytes[..line.len]);
    }

    fn flush(&self) {}
}

const LINE_BYTES: usize = 512;

/// One line, built on the stack, so that lines of CPUs don't mix and no memory is needed.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// Lets the `log` crate's macros come here.
pub(crate) fn init() {
    // Fails only if it was called before.
    let _ = ::log::set_logger(&KernelLog);
    ::log::set_max_level(LevelFilter::Info);
}

/// Formats to serial ports, without locks: for panics alone.
pub(crate) struct Unlocked(pub(crate) &'static [&'static Serial]);

impl Write for Unlocked {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for port in self.0 {
            port.write_unlocked(text.as_bytes());
        }
        Ok(())
    }
}
