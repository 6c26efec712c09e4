//! How programs end, and what their statuses mean.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | success |
//! | 1 | failure |
//! | 2 | wrong arguments |
//! | 57 | there is no such command |
//! | 58 | a file that is no program |
//! | 60 | ended by Ctrl-C |
//! | 61 | panicked |
//! | 62 | ended by a fault |
//! | 63 | any other status above 59 |

use crate::{call, console};

/// Success.
pub const SUCCESS: u64 = 0;
/// Failure.
pub const FAILURE: u64 = 1;
/// Wrong arguments.
pub const USAGE: u64 = 2;
/// There is no such command.
pub const NO_COMMAND: u64 = 57;
/// The file is no program, or can't be started.
pub const NO_PROGRAM: u64 = 58;
/// Ended by Ctrl-C.
pub const INTERRUPTED: u64 = 60;
/// Panicked.
pub const PANIC: u64 = 61;
/// Ended by a fault.
pub const FAULT: u64 = 62;
/// A status that is too large to be passed on.
pub const OTHER: u64 = 63;

/// Ends the program with a status, after writing out what output was kept back.
pub fn exit(status: u64) -> ! {
    console::flush_at_end();
    call::thread_exit(status)
}
