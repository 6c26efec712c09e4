//! This process and others: who lives.

use std::fs;
use std::io::Read;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// Names a process, of this boot and this PID namespace, for good: a number is used again, a number with its start time is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Clock ticks after boot; 0 where the process couldn't see its own.
    pub(crate) start: u64,
}

impl Process {
    /// This one.
    pub(crate) fn me() -> Self {
        let pid = std::process::id();
        Self { pid, start: state_of(pid).map_or(0, |state| state.start) }
    }

    /// False once it can't act any more. A process of another user may be hidden from this one (the `hidepid` option of proc(5)): as long as there is
    /// any of its number, it is taken to live.
    pub(crate) fn is_alive(self) -> bool {
        self.is_alive_as(state_of(self.pid))
    }

    /// The same, by what can be seen of its number.
    fn is_alive_as(self, seen: Option<State>) -> bool {
        match seen {
            Some(state) if self.start != 0 => state.start == self.start && !state.ended,
            Some(state) => !state.ended,
            None => exists(self.pid),
        }
    }
}

/// True if there is a process of that number, seen or not.
fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| !matches!(test_kill_process(pid), Err(Errno::SRCH)))
}

#[derive(Debug, PartialEq)]
struct State {
    start: u64,
    /// A zombie without further threads.
    ended: bool,
}

fn state_of(pid: u32) -> Option<State> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields of `/proc/PID/stat` (proc(5)): after the name in parentheses, which may hold anything: 3 state, 20 threads, 22 start time.
fn parse(stat: &str) -> Option<State> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    let start = fields.nth(1)?.parse().ok()?;
    Some(State { start, ended: matches!(state, "Z" | "X" | "x") && threads <= 1 })
}

/// Names this boot.
pub(crate) fn boot() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(1).to_be_bytes()
}

/// Names this PID namespace; 0 where that can't be told.
pub(crate) fn namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
}

/// Fills with random bytes.
pub(crate) fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    fs::File::open("/dev/urandom")?.read_exact(bytes)
}

/// A random word.
pub(crate) fn random_word() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    random(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_its_number_alone_is_not_it() {
        let me = Process::me();
        assert!(me.is_alive());
        assert!(!Process { start: me.start + 1, ..me }.is_alive());
    }

    #[test]
    fn a_killed_child_is_dead_even_before_it_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let pid = child.id();
        let child_process = Process { pid, start: state_of(pid).expect("there").start };
        assert!(child_process.is_alive());
        child.kill().expect("ours");
        while child_process.is_alive() {
            std::thread::yield_now();
        }
        assert!(state_of(pid).expect("a zombie").ended);
        child.wait().expect("ours");
        assert!(!child_process.is_alive());
    }

    #[test]
    fn who_can_not_be_seen_lives_as_long_as_there_is_one_of_that_number() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let hidden = Process { pid: child.id(), start: state_of(child.id()).expect("there").start };
        assert!(hidden.is_alive_as(None));
        child.kill().expect("ours");
        child.wait().expect("ours");
        assert!(!hidden.is_alive_as(None));
        assert!(!Process { pid: 0, start: 0 }.is_alive(), "nobody's slot");
    }

    #[test]
    fn who_could_not_see_itself_lives_by_its_number_alone() {
        let me = Process::me();
        assert!(Process { start: 0, ..me }.is_alive());
    }

    #[test]
    fn names_may_hold_anything() {
        let line = "7 (a) b Z 9) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 777 0";
        assert_eq!(parse(line), Some(State { start: 777, ended: false }));
        let zombie = "7 (x) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0";
        assert!(parse(zombie).expect("sound").ended);
        let leader_gone = "7 (x) Z 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 4 0 777 0";
        assert!(!parse(leader_gone).expect("sound").ended);
        assert_eq!(parse("nothing"), None);
    }
}
