//! What it is measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::report::Machine;

/// Describes this machine as it is now; `load` is filled in by [`loaded`] when the measurement ends.
pub(crate) fn describe(folder: &Path, quick: bool) -> Machine {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let system = rustix::system::uname();
    let load = load();
    Machine {
        date: first_line("date", &["-u", "+%Y-%m-%d"]),
        processor: processor.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: format!("Linux {}", system.release().to_string_lossy()),
        disk: file_system(folder),
        load: (load, load),
        quick,
    }
}

/// Notes what else ran meanwhile.
pub(crate) fn loaded(machine: &mut Machine) {
    machine.load.1 = load();
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Type of the file system that a folder lies on.
fn file_system(folder: &Path) -> String {
    first_line("findmnt", &["--noheadings", "--output=FSTYPE", "--target", &folder.to_string_lossy()])
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}
