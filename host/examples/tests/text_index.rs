//! The search engine: processes of its own for each command, others at the same time, and one that is killed.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::Duration;

fn text_index(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_text-index"));
    command.arg("idx").args(arguments).current_dir(folder);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    text_index(folder, arguments).output().expect("it runs")
}

fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_one_process_adds_others_find() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("cat.txt", "The cat sat on the mat.\nThe end.\n");
    write("dog.txt", "A dog and the cat.\n");
    done(folder.path(), &["put", "cat.txt", "dog.txt"]);
    done(folder.path(), &["add", "cat.txt", "dog.txt"]);
    assert_eq!(done(folder.path(), &["search", "the"]), "3\tcat.txt\n1\tdog.txt\n");
    assert_eq!(done(folder.path(), &["search", "--lines", "THE"]), "3\tcat.txt\t1,2\n1\tdog.txt\t1\n");
    assert_eq!(done(folder.path(), &["top", "1"]), "4\tthe\n");
    write("dog.txt", "Another one.\n");
    done(folder.path(), &["put", "dog.txt"]);
    done(folder.path(), &["add", "dog.txt"]);
    assert_eq!(done(folder.path(), &["search", "cat"]), "1\tcat.txt\n");
}

#[test]
fn refusals_have_a_status_and_say_why() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, what) in [
        (&["put"][..], "put needs files"),
        (&["put", "nothing.txt"], "can't read nothing.txt"),
        (&["add", "nothing.txt"], "no such name"),
        (&["frobnicate"], "usage: index"),
    ] {
        let output = run(folder.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(what), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    fs::write(folder.path().join("file"), "x").expect("written");
    let output =
        Command::new(env!("CARGO_BIN_EXE_text-index")).args(["file", "stat"]).current_dir(&folder).output();
    let output = output.expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("file can't be used"));
}

/// Each text is the same word over and over: the word of a text that was added counts as often as it stands there, or not at all.
#[test]
fn a_killed_one_has_added_all_or_nothing_and_others_go_on() {
    const WORDS: usize = 4000;
    let folder = tempfile::tempdir().expect("a folder");
    let names: Vec<String> = (0..8).map(|n| format!("text{n}")).collect();
    for (number, name) in names.iter().enumerate() {
        fs::write(folder.path().join(name), format!("common word{number}\n").repeat(WORDS)).expect("written");
    }
    let named = |verb: &'static str| -> Vec<&str> {
        [verb].into_iter().chain(names.iter().map(String::as_str)).collect()
    };
    done(folder.path(), &named("put"));
    for round in 0..8 {
        let mut adding = text_index(folder.path(), &named("add")).stderr(std::process::Stdio::null()).spawn();
        let adding = adding.as_mut().expect("it starts");
        sleep(Duration::from_millis(4 * round * round));
        // Meanwhile others search.
        let found = done(folder.path(), &["search", "common"]);
        assert!(found.is_empty() || found.lines().count() == names.len(), "{found}");
        adding.kill().expect("it runs or has ended");
        adding.wait().expect("it ends");
        let found = done(folder.path(), &["search", "common"]);
        assert!(found.is_empty() || found.lines().count() == names.len(), "{found}");
        assert!(found.lines().all(|line| line.starts_with(&format!("{WORDS}\t"))), "{found}");
    }
    done(folder.path(), &named("add"));
    assert_eq!(done(folder.path(), &["search", "word5"]), format!("{WORDS}\ttext5\n"));
    assert_eq!(done(folder.path(), &["search", "common"]).lines().count(), names.len());
}
