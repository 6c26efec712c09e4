//! The house rules that a machine can check.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates that may contain unsafe code, and why they need it.
const MAY_BE_UNSAFE: [(&str, &str); 9] = [
    ("twizzler-pmem", "accesses mapped memory and writes cache lines back"),
    ("twizzler-object", "touches mapped objects, whose memory others may write"),
    ("twizzler-slots", "reserves address ranges and maps files there"),
    ("twizzler", "shares memory with other processes, handles SIGBUS"),
    ("twizzler-image", "maps image files"),
    ("twizzler-bench-hosted", "chases plain pointers and calls peers written in C"),
    ("twizzler-campaign", "maps simulated objects where the code under test expects them"),
    ("twizzler-rt", "calls the kernel, and is entered by it"),
    ("twizzler-kernel", "is the kernel"),
];

/// Programs that do wrong on purpose, or name registers.
const UNSAFE_PROGRAMS: [&str; 3] = ["fault.rs", "fuzz.rs", "vector.rs"];

/// Crates of `user/` that run anywhere, and the crates of `host/` that run them: the crash simulator and the examples.
const RUN_ANYWHERE: [&str; 3] = ["user/command", "user/index", "user/kv"];
const RUNNERS: [&str; 2] = ["twizzler-campaign", "twizzler-examples"];

fn may_be_unsafe(package: &Package) -> bool {
    MAY_BE_UNSAFE.iter().any(|(name, _)| *name == package.name)
}

/// Files over this length hold more than one concept.
const FILE_LINES_MAX: usize = 500;

#[derive(Debug)]
struct Package {
    name: String,
    folder: PathBuf,
    /// Folder of each workspace crate that it depends on, except for its tests.
    depends_on: Vec<PathBuf>,
    roots: Vec<PathBuf>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(xtask::paths::root())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            name: text(&package["name"]),
            folder: Path::new(&text(&package["manifest_path"])).parent().expect("a folder").to_owned(),
            depends_on: list(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["path"].as_str().map(PathBuf::from))
                .collect(),
            roots: list(&package["targets"])
                .iter()
                .filter(|target| ["lib", "bin"].iter().any(|&kind| target["kind"][0] == kind))
                .map(|target| PathBuf::from(text(&target["src_path"])))
                .collect(),
        })
        .collect()
}

/// The part of the tree that a crate lies in: `shared`, `host`, `kernel` and so on.
fn area(folder: &Path) -> String {
    let inside = folder.strip_prefix(xtask::paths::root()).expect("a crate of this repository");
    inside.components().next().expect("not the root").as_os_str().to_string_lossy().into_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn crates_depend_only_downwards() {
    let allowed = BTreeMap::from([
        ("shared", vec!["shared"]),
        ("kernel", vec!["shared"]),
        ("user", vec!["shared", "user"]),
        ("host", vec!["shared", "host"]),
        ("bench", vec!["shared", "host"]),
        ("xtask", vec!["shared", "host", "bench"]),
    ]);
    for package in packages() {
        let from = area(&package.folder);
        for on in &package.depends_on {
            let to = area(on);
            let runs = RUNNERS.contains(&package.name.as_str());
            if runs && RUN_ANYWHERE.iter().any(|&anywhere| on.ends_with(anywhere)) {
                continue;
            }
            assert!(
                allowed.get(from.as_str()).is_some_and(|list| list.contains(&to.as_str())),
                "{} lies in {from}/ and must not depend on {}",
                package.name,
                on.display()
            );
        }
    }
}

#[test]
fn only_listed_crates_may_be_unsafe() {
    for package in packages().iter().filter(|package| !may_be_unsafe(package)) {
        let is_exempt = |root: &&PathBuf| UNSAFE_PROGRAMS.iter().any(|&name| root.ends_with(name));
        for root in package.roots.iter().filter(|root| !is_exempt(root)) {
            let text = fs::read_to_string(root).expect("readable");
            // A program's entry names the one function that the runtime calls, which forbid would not let pass.
            let program = package.name == "twizzler-programs" && text.contains("#![deny(unsafe_code)]");
            assert!(
                program || text.contains("#![forbid(unsafe_code)]"),
                "{} lacks #![forbid(unsafe_code)]; if it needs unsafe code, list {} in xtask/tests/house.rs",
                root.display(),
                package.name
            );
        }
    }
}

#[test]
fn listed_crates_are_unsafe_indeed() {
    for package in packages().iter().filter(|package| may_be_unsafe(package)) {
        let mut files = Vec::new();
        sources(&package.folder, &mut files);
        let needed =
            files.iter().any(|file| fs::read_to_string(file).expect("readable").contains("unsafe {"));
        assert!(needed, "{} has no unsafe code: take it from the list and forbid it", package.name);
    }
}

#[test]
fn files_are_short() {
    for package in packages() {
        let mut files = Vec::new();
        sources(&package.folder, &mut files);
        for file in files {
            let lines = fs::read_to_string(&file).expect("readable").lines().count();
            assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", file.display());
        }
    }
}

#[test]
fn every_crate_keeps_the_lint_wall() {
    for package in packages() {
        let manifest = fs::read_to_string(package.folder.join("Cargo.toml")).expect("readable");
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} lacks the workspace's lints",
            package.name
        );
    }
}
