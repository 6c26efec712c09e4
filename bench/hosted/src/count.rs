//! Exact counts: instructions, flushed lines, streamed bytes and fences of an operation, ours and the peers'.
//!
//! This program runs itself as a child, which does an operation some times and then more often; the parent has it step by single
//! instructions (ptrace(2)) and looks at each. The difference is what the operation takes. It needs no counters of the processor, which virtual
//! machines seldom have.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Asks this program to be counted at an operation.
const TASK: &str = "TWIZZLER_BENCH_COUNT";

/// How often the operation is done, and how often after that, while it is counted; for the child.
const NUMBERS: &str = "TWIZZLER_BENCH_COUNT_NUMBERS";

/// Whether operations are done as seldom as will do.
static QUICK: AtomicBool = AtomicBool::new(false);

/// From now on, operations are done as seldom as will do.
pub(crate) fn be_quick() {
    QUICK.store(true, Ordering::Relaxed);
}

/// What this program is asked to be counted at.
pub(crate) fn asked() -> Option<String> {
    std::env::var(TASK).ok()
}

/// Is counted; `work` does the operation so many times.
///
/// # Errors
/// The host doesn't let programs be traced; nobody said how many times.
pub(crate) fn be_counted(mut work: impl FnMut(u64) -> Duration) -> Result<()> {
    let [few, more]: [u64; 2] = serde_json::from_str(&std::env::var(NUMBERS)?)?;
    work(more);
    ptrace::traceme()?;
    raise(Signal::SIGSTOP)?;
    work(few);
    raise(Signal::SIGSTOP)?;
    work(more);
    raise(Signal::SIGSTOP)?;
    Ok(())
}

/// Counts for one operation, for the page. Nothing, where programs can't be traced here.
pub(crate) fn of(task: &str, number: u64) -> Vec<(String, f64)> {
    // Nothing, and then one: the first may differ a little from the others.
    let numbers = if QUICK.load(Ordering::Relaxed) { [0, 1] } else { [number, 2 * number] };
    let [few, more] = match trace(task, numbers) {
        Ok(counted) => counted,
        Err(error) => {
            eprintln!("{task} is not counted: {error:#}");
            return Vec::new();
        }
    };
    let of_one = |figure: fn(&Counts) -> u64| {
        figure(&more).saturating_sub(figure(&few)) as f64 / (numbers[1] - numbers[0]) as f64
    };
    vec![
        ("instructions".to_owned(), of_one(|counts| counts.instructions)),
        ("flushed lines".to_owned(), of_one(|counts| counts.flushes)),
        ("streamed bytes".to_owned(), of_one(|counts| counts.streamed_bytes)),
        ("fences".to_owned(), of_one(|counts| counts.fences)),
    ]
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    instructions: u64,
    flushes: u64,
    streamed_bytes: u64,
    fences: u64,
}

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Flush,
    Fence,
    /// A store of so many bytes that passes the caches.
    Stream(u64),
    /// A string instruction: the processor stops after each of its repetitions.
    Repeated,
    Other,
}

impl Kind {
    /// By its first bytes (Intel's manual, volume 2: CLFLUSH `0F AE /7`, CLFLUSHOPT `66 0F AE /7`, CLWB `66 0F AE /6`, SFENCE `0F AE F8`, MFENCE
    /// `0F AE F0`, MOVNTI `0F C3`, MOVNTDQ `66 0F E7`, MOVNTPS `0F 2B`).
    fn of(bytes: [u8; 8]) -> Self {
        if let Some(bytes) = streamed_by_vector(bytes) {
            return Self::Stream(bytes);
        }
        let (mut at, mut is_prefixed) = (0, false);
        while let 0x40..=0x4f | 0x66 | 0xf2 | 0xf3 = bytes[at] {
            match bytes[at] {
                0x66 => is_prefixed = true,
                0xf2 | 0xf3 if matches!(bytes[at + 1], 0xa4..=0xa7 | 0xaa..=0xaf | 0x48) => {
                    return Self::Repeated;
                }
                _ => {}
            }
            at += 1;
            if at > 4 {
                return Self::Other;
            }
        }
        let (is_register, field) = (bytes[at + 2] >= 0xc0, bytes[at + 2] >> 3 & 7);
        match (bytes[at], bytes[at + 1], is_register, field) {
            (0x0f, 0xae, false, 7) => Self::Flush,
            (0x0f, 0xae, false, 6) if is_prefixed => Self::Flush,
            (0x0f, 0xae, true, 6 | 7) if !is_prefixed => Self::Fence,
            (0x0f, 0xc3, false, _) if bytes[..at].iter().any(|prefix| matches!(prefix, 0x48..=0x4f)) => {
                Self::Stream(8)
            }
            (0x0f, 0xc3, false, _) => Self::Stream(4),
            (0x0f, 0xe7, false, _) if is_prefixed => Self::Stream(16),
            (0x0f, 0x2b, false, _) => Self::Stream(16),
            _ => Self::Other,
        }
    }
}

/// Bytes of VMOVNTDQ and VMOVNTPS, with the prefixes of AVX and AVX-512 (the same manual, sections 2.3 and 2.7).
fn streamed_by_vector(bytes: [u8; 8]) -> Option<u64> {
    let (code, bits) = match bytes {
        [0xc5, vector, code, ..] => (code, vector >> 2 & 1),
        [0xc4, map, vector, code, ..] if map & 0x1f == 1 => (code, vector >> 2 & 1),
        [0x62, map, _, vector, code, ..] if map & 7 == 1 => (code, vector >> 5 & 3),
        _ => return None,
    };
    matches!(code, 0xe7 | 0x2b).then_some(16 << bits)
}

/// Counts between the child's stops.
fn trace(task: &str, numbers: [u64; 2]) -> Result<[Counts; 2]> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--disk", "/"])
        .env(TASK, task)
        .env(NUMBERS, serde_json::to_string(&numbers)?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("can't start a child")?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let counted = count(pid);
    // It has nothing more to do; where it has ended already, there is nobody to kill.
    let _ = ptrace::kill(pid);
    let _ = child.kill();
    child.wait()?;
    counted
}

fn count(pid: Pid) -> Result<[Counts; 2]> {
    let stopped = |status| matches!(status, WaitStatus::Stopped(_, Signal::SIGSTOP));
    let first = waitpid(pid, None)?;
    ensure!(stopped(first), "it ended before it began: {first:?}");
    let mut parts = [Counts::default(); 2];
    for counts in &mut parts {
        let mut last = 0;
        loop {
            let at = ptrace::getregs(pid)?.rip;
            let word = ptrace::read(pid, std::ptr::without_provenance_mut(at as usize))?;
            let kind = Kind::of(word.to_le_bytes());
            ptrace::step(pid, None)?;
            match waitpid(pid, None)? {
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                status if stopped(status) => break,
                status => anyhow::bail!("it ended in the middle: {status:?}"),
            }
            counts.instructions += u64::from(!(kind == Kind::Repeated && at == last));
            counts.flushes += u64::from(kind == Kind::Flush);
            counts.fences += u64::from(kind == Kind::Fence);
            counts.streamed_bytes += if let Kind::Stream(bytes) = kind { bytes } else { 0 };
            last = at;
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_and_fences_are_told_from_others() {
        let of = |bytes: &[u8]| {
            let mut padded = [0x90; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            Kind::of(padded)
        };
        assert_eq!(of(&[0x0f, 0xae, 0x38]), Kind::Flush, "clflush (rax)");
        assert_eq!(of(&[0x66, 0x0f, 0xae, 0x38]), Kind::Flush, "clflushopt (rax)");
        assert_eq!(of(&[0x66, 0x41, 0x0f, 0xae, 0x34, 0x24]), Kind::Flush, "clwb (r12)");
        assert_eq!(of(&[0x0f, 0xae, 0xf8]), Kind::Fence, "sfence");
        assert_eq!(of(&[0x0f, 0xae, 0xf0]), Kind::Fence, "mfence");
        assert_eq!(of(&[0x0f, 0xae, 0x30]), Kind::Other, "xsaveopt (rax)");
        assert_eq!(of(&[0x0f, 0xc3, 0x07]), Kind::Stream(4), "movnti (rdi), eax");
        assert_eq!(of(&[0x48, 0x0f, 0xc3, 0x07]), Kind::Stream(8), "movnti (rdi), rax");
        assert_eq!(of(&[0x66, 0x0f, 0xe7, 0x07]), Kind::Stream(16), "movntdq (rdi), xmm0");
        assert_eq!(of(&[0xc5, 0xfd, 0xe7, 0x07]), Kind::Stream(32), "vmovntdq (rdi), ymm0");
        assert_eq!(of(&[0x62, 0xf1, 0x7d, 0x48, 0xe7, 0x07]), Kind::Stream(64), "vmovntdq (rdi), zmm0");
        assert_eq!(of(&[0xf3, 0xa4]), Kind::Repeated, "rep movsb");
        assert_eq!(of(&[0xf3, 0x48, 0xab]), Kind::Repeated, "rep stosq");
        assert_eq!(of(&[0x48, 0x89, 0xc3]), Kind::Other, "mov rbx, rax");
    }
}
