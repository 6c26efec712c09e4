//! Real texts: what Debian installs under `/usr/share` and elsewhere, in one fixed order.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use twz::size::Bytes;

/// A text and the name that it gets in the machine.
#[derive(Clone, Debug)]
pub struct Text {
    /// Where it lies on the host.
    pub path: PathBuf,
    /// Its name in the machine.
    pub name: String,
    /// What it says.
    pub content: String,
}

const FOLDERS: [&str; 7] = [
    "/usr/share/common-licenses",
    "/usr/share/doc",
    "/usr/share/perl",
    "/var/lib/dpkg/info",
    "/usr/share/perl5",
    "/usr/lib/python3",
    "/usr/src",
];

/// Shorter ones would only add objects, longer ones would be most of the whole.
const TEXT_BYTES: std::ops::Range<u64> = 2_000..1_000_000;

/// Takes texts until there are `wanted` bytes of them.
///
/// # Errors
/// This host does not have so many.
pub fn texts(wanted: Bytes) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    let mut bytes = 0;
    for folder in FOLDERS {
        let mut files = Vec::new();
        collect(Path::new(folder), &mut files);
        files.sort();
        for path in files {
            if bytes >= wanted.0 {
                return Ok(texts);
            }
            // What is no UTF-8 is no text for the index.
            let Ok(content) = fs::read_to_string(&path) else { continue };
            bytes += content.len() as u64;
            texts.push(Text { name: format!("text{:04}", texts.len()), path, content });
        }
    }
    if bytes < wanted.0 {
        bail!("found only {} of text: install perl-modules, python3 or rust-web-src", Bytes(bytes));
    }
    Ok(texts)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // Links would lead round in circles and to the same text twice.
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_dir() {
            collect(&path, files);
        } else if metadata.is_file() && TEXT_BYTES.contains(&metadata.len()) && !compressed(&path) {
            files.push(path);
        }
    }
}

fn compressed(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["gz", "xz", "png", "pyc", "so"].iter().any(|&known| extension == known))
}
