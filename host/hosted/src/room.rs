//! How much memory the program may use, and whether its objects are more than that.
//!
//! A load from an object that is not in memory makes the host read 128 KiB around it. That is good where all objects will be in
//! memory sooner or later. Where they can't be, it throws out 31 other pages for each one that is wanted; then the host is told to read what is asked
//! for and nothing else, as cold reads in order then do with a page each.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of it.
#[derive(Debug)]
pub(crate) struct Room {
    memory_bytes: u64,
    is_short: AtomicBool,
}

impl Room {
    /// Asks the host. What changes later is not noticed.
    pub(crate) fn look() -> Self {
        let read = |path: &Path| fs::read_to_string(path).ok();
        Self { memory_bytes: memory_bytes(&read), is_short: AtomicBool::new(false) }
    }

    /// True if the program's objects are known to be more than its memory holds.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Notes that its objects have so many bytes. True where it becomes known by that that they are too much: half of the memory is left to
    /// everything else.
    pub(crate) fn becomes_short(&self, objects_bytes: u64) -> bool {
        objects_bytes > self.memory_bytes / 2 && !self.is_short.swap(true, Ordering::Relaxed)
    }
}

/// The machine's memory, or what the process's memory cgroup, or one above it, allows.
fn memory_bytes(read: &dyn Fn(&Path) -> Option<String>) -> u64 {
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| total_bytes(&text));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(limit_files).flatten();
    let limits = limits.filter_map(|path| read(&path)?.trim().parse().ok());
    limits.chain(machine).min().unwrap_or(u64::MAX)
}

/// `MemTotal` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Where limits of a cgroup and those above it are, for a line of `/proc/self/cgroup` (cgroups(7)): `0::/path` in version 2, `5:memory:/path` in
/// version 1.
fn limit_files(line: &str) -> Option<Vec<PathBuf>> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, group) = rest.split_once(':')?;
    let (root, file) = if controllers.is_empty() {
        ("/sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    let group = Path::new(group.trim_start_matches('/'));
    Some(group.ancestors().map(|above| Path::new(root).join(above).join(file)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> u64 {
        memory_bytes(&|path| {
            files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn the_least_limit_counts() {
        let machine = ("/proc/meminfo", "MemTotal:       1000 kB\nMemFree: 5 kB\n");
        assert_eq!(with(&[machine]), 1_024_000);
        let two = ("/proc/self/cgroup", "0::/a/b\n");
        let unlimited = ("/sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(with(&[machine, two, unlimited]), 1_024_000);
        assert_eq!(with(&[machine, two, unlimited, ("/sys/fs/cgroup/a/memory.max", "4096\n")]), 4096);
        let one = ("/proc/self/cgroup", "7:cpu,cpuacct:/x\n5:memory:/c\n");
        assert_eq!(with(&[machine, one, ("/sys/fs/cgroup/memory/c/memory.limit_in_bytes", "8192\n")]), 8192);
        assert_eq!(with(&[]), u64::MAX);
    }

    #[test]
    fn it_becomes_short_once() {
        let room = Room { memory_bytes: 100, is_short: AtomicBool::new(false) };
        assert!(!room.becomes_short(50) && !room.is_short());
        assert!(room.becomes_short(51) && room.is_short());
        assert!(!room.becomes_short(60));
    }
}
