//! Exit statuses of `run`: part of the contract with people's scripts (`docs/running.md`).

/// Highest status that a command in the machine can have.
pub const COMMAND_MAX: u8 = 63;
/// The kernel stopped itself.
pub const PANIC: u8 = 100;
/// The commands ran, but `--get` failed.
pub const GET_FAILED: u8 = 123;
/// `--timeout` passed.
pub const TIMEOUT: u8 = 124;
/// The machine was not started: bad arguments, missing tools, a failed build, an unusable NVM file.
pub const NOT_STARTED: u8 = 125;
/// The machine stopped without telling a status.
pub const NO_STATUS: u8 = 126;

/// How a run of the machine ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The system powered off with this status.
    PoweredOff(u8),
    /// The kernel stopped itself.
    Panicked,
    /// Time was up.
    TimedOut,
    /// QEMU ended by itself, or was ended by somebody: its exit code, or None for a signal.
    Stopped(Option<i32>),
}

impl Ending {
    /// What QEMU's exit code means. The exit device turns a value v into `v << 1 | 1`; a QEMU that could not
    /// start also ends with 1, so the caller must know that the kernel ran.
    #[must_use]
    pub fn from_qemu(code: Option<i32>) -> Self {
        match code {
            Some(code) if code & 1 == 1 => match u8::try_from(code >> 1) {
                Ok(PANIC) => Self::Panicked,
                Ok(status) => Self::PoweredOff(status),
                Err(_) => Self::Stopped(Some(code)),
            },
            other => Self::Stopped(other),
        }
    }

    /// The status that `run` ends with.
    #[must_use]
    pub const fn status(self) -> u8 {
        match self {
            Self::PoweredOff(status) => status,
            Self::Panicked => PANIC,
            Self::TimedOut => TIMEOUT,
            Self::Stopped(_) => NO_STATUS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_device_codes_become_statuses() {
        assert_eq!(Ending::from_qemu(Some(1)), Ending::PoweredOff(0));
        assert_eq!(Ending::from_qemu(Some(3)), Ending::PoweredOff(1));
        assert_eq!(Ending::from_qemu(Some(100 << 1 | 1)), Ending::Panicked);
        assert_eq!(Ending::from_qemu(Some(0)).status(), NO_STATUS);
        assert_eq!(Ending::from_qemu(None), Ending::Stopped(None));
    }
}
