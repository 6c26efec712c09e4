//! Clocks.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Measures the processor time that this thread takes: what others do on a busy machine is left out, but for what they do to the
/// caches. For work that never waits.
pub(crate) struct Stopwatch(Duration);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        now().saturating_sub(self.0)
    }
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
