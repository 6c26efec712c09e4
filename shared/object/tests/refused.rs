//! What must not compile doesn't, and says why in the right place.
//!
//! Each file of `refused/` is a program with mistakes, each marked by `//~` and a part of what the compiler must say at that
//! line. It must say nothing else, but may repeat itself. Only the first line of each message is compared, so that another compiler's way of explaining
//! doesn't matter. `docs/types.md` lists the files beside the bugs that they try.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A line, and what is said there.
type Said = (u64, String);

fn programs() -> BTreeMap<String, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("readable").path());
    files.map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path)).collect()
}

/// A package with all of them, outside the workspace: `cargo check` of it fails.
fn package(programs: &BTreeMap<String, PathBuf>) -> PathBuf {
    let object = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = object.parent().expect("shared/");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("refused");
    fs::create_dir_all(&folder).expect("the folder can be made");
    let mut manifest =
        String::from("[package]\nname = \"refused\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n");
    for name in ["object", "abi"] {
        writeln!(manifest, "twizzler-{name} = {{ path = {:?} }}", shared.join(name)).expect("a string grows");
    }
    for (name, path) in programs {
        write!(manifest, "[[bin]]\nname = {name:?}\npath = {path:?}\n").expect("a string grows");
    }
    fs::write(folder.join("Cargo.toml"), manifest).expect("the manifest can be written");
    let lock = shared.parent().expect("the workspace").join("Cargo.lock");
    fs::copy(lock, folder.join("Cargo.lock")).expect("the lock file can be copied");
    folder
}

/// What the compiler says, for each program.
fn compile(folder: &Path) -> BTreeMap<String, BTreeSet<Said>> {
    let output = Command::new(env!("CARGO"))
        .args(["check", "--quiet", "--bins", "--keep-going", "--offline", "--message-format=json"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .expect("cargo runs");
    let mut errors: BTreeMap<String, BTreeSet<Said>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let report: Value = serde_json::from_str(line).expect("cargo writes JSON");
        let (program, message) = (&report["target"]["name"], &report["message"]);
        if report["reason"] != "compiler-message" || message["level"] != "error" {
            continue;
        }
        let spans = message["spans"].as_array().expect("a list");
        // The last one counts the errors, and is nowhere.
        let Some(at) = spans.iter().find(|span| span["is_primary"] == true) else { continue };
        errors.entry(program.as_str().expect("a name").to_owned()).or_default().insert((
            at["line_start"].as_u64().expect("a line"),
            message["message"].as_str().expect("a text").to_owned(),
        ));
    }
    assert!(!errors.is_empty(), "nothing was compiled:\n{}", String::from_utf8_lossy(&output.stderr));
    errors
}

fn expected(path: &Path) -> Vec<Said> {
    let text = fs::read_to_string(path).expect("readable");
    let marked = |(line, number): (&str, u64)| {
        let texts: Vec<Said> =
            line.split("//~").skip(1).map(|text| (number, text.trim().to_owned())).collect();
        texts
    };
    text.lines().zip(1..).flat_map(marked).collect()
}

#[test]
fn mistakes_are_refused_with_the_right_words() {
    let programs = programs();
    let mut said = compile(&package(&programs));
    let mut wrong = String::new();
    for (name, path) in &programs {
        let mut said = said.remove(name).unwrap_or_default();
        for (line, text) in expected(path) {
            let found = said.iter().find(|(at, message)| *at == line && message.contains(&text)).cloned();
            match found {
                Some(found) => drop(said.remove(&found)),
                None => writeln!(wrong, "{name}.rs:{line}: expected: {text}").expect("a string grows"),
            }
        }
        for (line, message) in said {
            writeln!(wrong, "{name}.rs:{line}: unexpected: {message}").expect("a string grows");
        }
    }
    assert!(wrong.is_empty(), "the compiler says otherwise:\n{wrong}");
}

#[test]
fn each_program_is_in_the_table_of_bugs() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/types.md");
    let table = fs::read_to_string(table).expect("docs/types.md");
    let named: BTreeSet<String> = table
        .split('`')
        .filter_map(|word| word.strip_prefix("refused/")?.strip_suffix(".rs"))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, programs().into_keys().collect(), "docs/types.md, and shared/object/tests/refused/");
}
