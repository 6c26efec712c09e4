//! Which part of the NVM file a running QEMU touches, in pages, as the processor's accessed bits say.
//!
//! Linux clears the bits on request and counts those that are set again (`/proc/PID/clear_refs` and
//! `smaps`, see proc(5)). A page that was mapped before is counted only if it is touched.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Forgets what was touched so far.
pub(super) fn forget(process: u32) -> Result<()> {
    let file = format!("/proc/{process}/clear_refs");
    fs::write(&file, "1").context("can't reset the accessed bits of QEMU")?;
    // A translation that a processor still has cached would not set its bit again. Asking for the dirty bits flushes
    // those caches, where the host's Linux has that; hence also the repetitions of those who call this.
    let _ = fs::write(&file, "4");
    Ok(())
}

/// Bytes of the file's mapping that were touched since.
pub(super) fn bytes(process: u32, file: &Path) -> Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps")).context("can't read QEMU's mappings")?;
    Ok(referenced(&maps, &file.canonicalize()?.display().to_string()))
}

fn referenced(maps: &str, file: &str) -> u64 {
    let mut of_file = false;
    let mut bytes = 0;
    for line in maps.lines() {
        if line.split_whitespace().nth(1).is_some_and(|word| word.len() == 4 && word.starts_with(['r', '-']))
        {
            of_file = line.ends_with(file);
        } else if of_file && let Some(rest) = line.strip_prefix("Referenced:") {
            bytes += rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn mappings_of_the_file_alone_are_counted() {
        let maps = "7f00-7f10 rw-s 00000000 08:01 12 /tmp/a.nvm\nRss: 8 kB\nReferenced:  8 kB\n\
                    7f10-7f20 rw-p 00000000 00:00 0 \nReferenced: 100 kB\n";
        assert_eq!(super::referenced(maps, "/tmp/a.nvm"), 8192);
    }
}
