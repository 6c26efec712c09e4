//! How large the kernel is: `cargo run -- loc`.
//!
//! Counted are lines of Rust, assembly and linker scripts that are neither blank nor only comment, without
//! tests: folders named `test` or `tests`, and everything from a `#[cfg(test)]` to the end of its item.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use twizzler_abi::call::Call;

use crate::paths;

/// The kernel stays below this many lines (design, principle 6).
pub const LINES_LIMIT: usize = 12_000;
/// And below this many calls.
pub const CALLS_LIMIT: usize = 20;

/// The crates that run in the kernel, the kernel proper first.
const CRATES: [&str; 6] =
    ["kernel", "shared/store", "shared/sched", "shared/loader", "shared/abi", "shared/pmem"];

/// Lines of the kernel proper and of each shared crate that runs in it.
///
/// # Errors
/// A source file can't be read.
pub fn count() -> Result<Vec<(&'static str, usize)>> {
    CRATES.into_iter().map(|name| Ok((name, folder_lines(&paths::root().join(name))?))).collect()
}

/// Calls that are built, and numbers that are set aside for later.
#[must_use]
pub fn calls() -> (usize, usize) {
    let reserved = Call::ALL.iter().filter(|(_, _, doc)| doc.trim_start().starts_with("Reserved")).count();
    (Call::ALL.len() - reserved, reserved)
}

/// The counts as text.
///
/// # Errors
/// A source file can't be read.
pub fn report() -> Result<String> {
    let counts = count()?;
    let total: usize = counts.iter().map(|(_, lines)| lines).sum();
    let mut text = String::new();
    for (name, lines) in &counts {
        writeln!(text, "{lines:>6}  {name}")?;
    }
    let (built, reserved) = calls();
    writeln!(text, "{total:>6}  all that runs in the kernel, limit {LINES_LIMIT}")?;
    writeln!(text, "{built:>6}  calls, and {reserved} numbers reserved, limit {CALLS_LIMIT}")?;
    Ok(text)
}

fn folder_lines(folder: &Path) -> Result<usize> {
    let mut total = 0;
    for file in files(folder)? {
        let extension = file.extension().unwrap_or_default();
        if ["rs", "s", "S", "ld"].iter().any(|&counted| extension == counted) {
            let text = fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
            total += lines(&text);
        }
    }
    Ok(total)
}

/// All files under a folder, without tests.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !path.is_dir() {
            if name != "tests.rs" {
                found.push(path);
            }
        } else if !["test", "tests", "target", "examples", "benches"].contains(&name.as_str()) {
            found.extend(files(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

/// Lines of a source text that count.
fn lines(text: &str) -> usize {
    let mut counted = 0;
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(test)]") || line.starts_with("#![cfg(test)]") {
            if line.starts_with("#!") {
                return 0;
            }
            skip_item(&mut lines);
        } else if line.starts_with("/*") {
            if !line.contains("*/") {
                lines.by_ref().find(|line| line.contains("*/"));
            }
        } else if !line.is_empty() && !line.starts_with("//") {
            counted += 1;
        }
    }
    counted
}

/// Skips the item that an attribute stands before: to its closing brace, or to a semicolon before any brace.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    let mut depth = 0i64;
    let mut opened = false;
    for line in lines {
        let code = line.split("//").next().unwrap_or_default();
        opened |= code.contains('{');
        depth += code.matches('{').count() as i64 - code.matches('}').count() as i64;
        if (opened && depth <= 0) || (!opened && code.ends_with(';')) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_tests_do_not_count() {
        let text = "//! Docs.\n\nfn a() {\n    // why\n    b();\n}\n/* long\n comment */\n#[cfg(test)]\nmod tests {\n    fn c() {\n    }\n}\nfn d() {}\n";
        assert_eq!(lines(text), 4);
        assert_eq!(lines("#[cfg(test)]\nmod tests;\nfn d() {}\n"), 1);
    }
}
