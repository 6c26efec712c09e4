//! The tutorial: its code is the program `notes`, and what it shows is what the program does.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

const TUTORIAL: &str = include_str!("../../../docs/tutorial.md");
const PROGRAM: &str = include_str!("../src/bin/notes.rs");

/// The contents of all blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = TUTORIAL.lines();
    while let Some(line) = lines.next() {
        let Some(of) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if of == language {
            found.push(block.join("\n"));
        }
    }
    found
}

#[test]
fn the_code_is_the_program() {
    assert_eq!(blocks("rust").join("\n\n").trim_end(), PROGRAM.trim_end());
    assert!(PROGRAM.contains("#![forbid(unsafe_code)]"));
}

/// Runs a line of a shell session; `cargo run` is the program.
fn run(line: &str, folder: &Path) -> String {
    let program = env!("CARGO_BIN_EXE_notes");
    let line = line.replace("cargo run -q --", program);
    let output = Command::new("bash").arg("-c").arg(&line).current_dir(folder).output().expect("bash runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stderr), "", "{line}");
    text(&output.stdout)
}

#[test]
fn the_sessions_are_what_the_program_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let sessions = blocks("console");
    assert!(sessions.len() >= 4);
    for session in sessions {
        for step in format!("\n{session}\n").split("\n$ ").skip(1) {
            let (command, wanted) = step.split_once('\n').unwrap_or((step, ""));
            assert_eq!(run(command, folder.path()).trim_end(), wanted.trim_end(), "$ {command}");
        }
    }
}
