//! What a hop is compiled to.
//!
//! `golden/hops.rs` is compiled as programs are, in release. Its functions are compared with the listing in `golden/hops.txt`, where the
//! compiler is the one that made that. With any compiler, all ways through a hop that call nothing are counted: the local one, the
//! foreign one, null.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// For each function: so many instructions and loads at most, on the way of a local, a foreign and a null pointer.
/// The loads of `hop`: the pointer, the space behind the guard; then its table, and the row. In a loop, space and table are loaded once. `step` loads
/// the cursor too.
const MOST: [(&str, [(usize, usize); 3]); 2] =
    [("hop", [(28, 2), (54, 4), (47, 2)]), ("step", [(31, 4), (57, 6), (50, 4)])];

/// The same for what a hop calls, on its ways that call nothing further: by the second level of the translation table, at most. Its loads: where the
/// table is, the row's word, the second level's.
const SECOND_LEVEL_MOST: (usize, usize) = (95, 3);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compiles, outside the workspace and for a plain processor; gives the assembly.
fn compile() -> String {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("shared/");
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    fs::create_dir_all(&package).expect("the folder can be made");
    let manifest = format!(
        "[package]\nname = \"hops\"\nedition = \"2024\"\n[workspace]\n[lib]\npath = {:?}\n[dependencies]\n\
         twizzler-object = {{ path = {:?} }}\ntwizzler-abi = {{ path = {:?} }}\n",
        folder().join("hops.rs"),
        shared.join("object"),
        shared.join("abi"),
    );
    fs::write(package.join("Cargo.toml"), manifest).expect("the manifest can be written");
    let lock = shared.parent().expect("the workspace").join("Cargo.lock");
    fs::copy(lock, package.join("Cargo.lock")).expect("the lock file can be copied");
    let out = package.join("hops.s");
    let emit = format!("--emit=asm={}", out.display());
    let done = Command::new(env!("CARGO"))
        .args(["rustc", "--quiet", "--lib", "--release", "--offline", "--", "-Ccodegen-units=1", &emit])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", package.join("target"))
        .env("RUSTFLAGS", "")
        .status()
        .expect("cargo runs");
    assert!(done.success(), "the hops compile");
    fs::read_to_string(out).expect("there is assembly")
}

fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// A function's lines: labels and instructions, without what differs from build to build.
fn function(assembly: &str, name: &str) -> Vec<String> {
    let is_label = |line: &&str| line.starts_with("_ZN") && line.ends_with(':');
    let named = format!("{}{name}17h", name.len());
    let begins = |line: &&str| is_label(line) && line.contains(&named);
    let lines = assembly.lines().skip_while(|line| !begins(line)).skip(1);
    let body = lines.take_while(|line| !line.starts_with(".Lfunc_end"));
    let said: Vec<String> = body
        .map(|line| line.split('#').next().unwrap_or_default().trim().replace('\t', " "))
        .filter(|line| !line.is_empty() && (!line.starts_with('.') || line.starts_with(".LBB")))
        .map(|line| without_hashes(&line))
        .map(|line| without_places(&line))
        .collect();
    assert!(!said.is_empty(), "{name} is in the assembly");
    said
}

/// Hashes in symbols, which depend on where things were compiled, as `h...`.
fn without_hashes(line: &str) -> String {
    match line.find("17h").filter(|_| line.contains("_ZN")) {
        Some(at) => format!(
            "{}17h...{}",
            &line[..at],
            line[at + 19..].trim_start_matches(|c: char| c.is_ascii_hexdigit())
        ),
        None => line.to_owned(),
    }
}

/// Without what depends on functions and fields elsewhere: the function's number in labels, and how far in a space its fields lie.
fn without_places(line: &str) -> String {
    let mut said = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(".LBB") {
        let (before, label) = rest.split_at(at);
        said += before;
        said += ".L";
        rest = label.trim_start_matches(".LBB").trim_start_matches(|c: char| c.is_ascii_digit());
        rest = rest.strip_prefix('_').unwrap_or(rest);
    }
    said += rest;
    let far = |word: &str| {
        let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        digits >= 3 && word[digits..].starts_with('(')
    };
    let words = said.split(' ').map(|word| {
        if far(word) { format!("FIELD{}", &word[word.find('(').unwrap_or(0)..]) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn is_load(instruction: &str) -> bool {
    let stores = instruction.starts_with("mov") && instruction.ends_with(')');
    instruction.contains('(') && !instruction.starts_with("lea") && !stores
}

/// All ways through a function that end with its return and call nothing: (instructions, loads) of each.
fn ways(lines: &[String]) -> Vec<(usize, usize)> {
    let labels: BTreeMap<&str, usize> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((line.strip_suffix(':')?, at))).collect();
    let mut found = Vec::new();
    let mut open = vec![(0, 0, 0, Vec::new())];
    while let Some((mut at, mut instructions, mut loads, mut taken)) = open.pop() {
        while let Some(line) = lines.get(at) {
            at += 1;
            if line.ends_with(':') {
                continue;
            }
            instructions += 1;
            loads += usize::from(is_load(line));
            let (name, operand) = line.split_once(' ').unwrap_or((line, ""));
            if name.starts_with("ret") {
                found.push((instructions, loads));
                break;
            }
            if name.starts_with("call") {
                break;
            }
            if name.starts_with('j') {
                let target = labels.get(operand).copied();
                // A hop has no loops; whoever comes by a jump twice is in one.
                if name == "jmp" && (target.is_none() || taken.contains(&at)) {
                    break;
                }
                taken.push(at);
                if let Some(target) = target {
                    if name == "jmp" {
                        at = target;
                    } else {
                        open.push((target, instructions, loads, taken.clone()));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn hops_are_as_short_as_they_were() {
    let assembly = compile();
    let mut listing = format!("{}\n", compiler());
    let mut counts = String::new();
    let mut too_long = String::new();
    for (name, [local, foreign, null]) in MOST {
        let lines = function(&assembly, name);
        writeln!(listing, "\n{name}:").expect("a string grows");
        for line in &lines {
            let indent = if line.ends_with(':') { "" } else { "    " };
            writeln!(listing, "{indent}{line}").expect("a string grows");
        }
        let mut ways = ways(&lines);
        ways.sort_unstable();
        writeln!(counts, "{name}: (instructions, loads) of all ways without calls: {ways:?}")
            .expect("a string grows");
        let within = |way: (usize, usize), most: (usize, usize)| way.0 <= most.0 && way.1 <= most.1;
        // The local one is the shortest that finds something; the foreign one has the loads of the table more.
        for most in [local, foreign, null] {
            if !ways.iter().any(|&way| within(way, most)) {
                writeln!(too_long, "{name}: no way within {most:?}").expect("a string grows");
            }
        }
        if let Some(longest) = ways.iter().find(|&&way| !within(way, (foreign.0.max(null.0), foreign.1))) {
            writeln!(too_long, "{name}: one way takes {longest:?}").expect("a string grows");
        }
    }
    let slowly = ways(&function(&assembly, "resolve_slowly"));
    let longest = slowly.iter().filter(|(_, loads)| *loads > 0).max().copied().unwrap_or_default();
    writeln!(counts, "the second level: (instructions, loads) in what a hop calls: {longest:?}")
        .expect("a string grows");
    if longest.1 != SECOND_LEVEL_MOST.1 || longest.0 > SECOND_LEVEL_MOST.0 {
        writeln!(too_long, "the second level takes {longest:?}, of {slowly:?}").expect("a string grows");
    }
    println!("{counts}");
    let golden = folder().join("hops.txt");
    if std::env::var_os("TWIZZLER_GOLDEN").is_some_and(|what| what == "write") {
        fs::write(&golden, &listing).expect("the listing can be written");
    }
    assert!(too_long.is_empty(), "{too_long}\n{counts}\n{listing}");
    let was = fs::read_to_string(&golden).unwrap_or_default();
    if was.lines().next() == listing.lines().next() {
        assert!(
            was == listing,
            "hops are compiled to something else than before. If that is as good or better, write it down:\n\
             TWIZZLER_GOLDEN=write cargo test -p twizzler-object --test golden\n{counts}\n{listing}"
        );
    }
}

#[test]
fn ways_are_counted() {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let twice = lines(
        "movq (%rsi), %rax\n testq %rax, %rax\n je .LBB0_2\n movq %rax, (%rdi)\n retq\n .LBB0_2:\n callq foo\n retq",
    );
    assert_eq!(ways(&twice), [(5, 1)], "a store is no load, and who calls doesn't count");
    let two = lines("leaq 8(%rsi), %rax\n jne .LBB0_2\n addq (%rax), %rax\n .LBB0_2:\n retq");
    let mut both = ways(&two);
    both.sort_unstable();
    assert_eq!(both, [(3, 0), (4, 1)]);
    let endless = lines(".LBB0_1:\n jmp .LBB0_1");
    assert_eq!(ways(&endless), []);
}
