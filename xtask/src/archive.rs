//! The boot archive: programs, the kernel's symbols and, for scripted use, the commands.

use std::path::Path;

use anyhow::{Context, Result};

use crate::build::Built;
use crate::symbols;

/// Programs that are all in one file, which takes the name that it was started under.
const BUNDLE: (&str, &[&str]) = ("init", &["index", "kv", "shell"]);

/// Packs the boot archive. `script` holds one shell command on each line.
///
/// # Errors
/// A program can't be read.
pub fn pack(built: &Built, script: Option<&str>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let read = |file: &Path| std::fs::read(file).with_context(|| format!("can't read {}", file.display()));
    for (name, file) in &built.programs {
        append(&mut archive, &format!("bin/{name}"), &read(file)?)?;
        for link in BUNDLE.1.iter().filter(|_| name == BUNDLE.0) {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Link);
            header.set_size(0);
            archive.append_link(&mut header, format!("bin/{link}"), format!("bin/{name}"))?;
        }
    }
    append(&mut archive, "kernel.symbols", symbols::functions(&read(&built.kernel)?)?.as_bytes())?;
    if let Some(script) = script {
        append(&mut archive, "script", script.as_bytes())?;
    }
    Ok(archive.into_inner()?)
}

/// Adds one file. Owner and time are left out, so that equal contents give equal archives.
fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, contents: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(contents.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, name, contents).with_context(|| format!("can't pack {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_packed_is_found_again() {
        let me = std::env::current_exe().expect("Linux");
        let built = Built { kernel: me.clone(), programs: vec![("init".into(), me)] };
        let packed = pack(&built, Some("ls\n")).expect("packs");
        assert_eq!(&packed[257..262], b"ustar");
        let mut names = Vec::new();
        for entry in tar::Archive::new(&packed[..]).entries().expect("well formed") {
            let mut entry = entry.expect("well formed");
            names.push(entry.path().expect("UTF-8").display().to_string());
            if names.last().is_some_and(|name| name == "script") {
                let mut text = String::new();
                entry.read_to_string(&mut text).expect("text");
                assert_eq!(text, "ls\n");
            }
        }
        assert_eq!(names, ["bin/init", "bin/index", "bin/kv", "bin/shell", "kernel.symbols", "script"]);
    }
}
