//! A store travels: made on Linux, taken into an image, used on Twizzler, and taken back.
#![forbid(unsafe_code)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use support::Machine;

/// Runs `twz`, which must end well. Gives what it prints.
fn twz(words: &[&str]) -> String {
    match twz::cli::answer(words) {
        Ok(answer) => answer.text,
        Err(failure) => panic!("twz {words:?}: {failure}"),
    }
}

#[test]
fn store_made_on_linux_is_used_on_twizzler_and_taken_back() {
    let machine = Machine::new("travels");
    let path = |name: &str| machine.file(name).display().to_string();
    let (store, archive, back, image) = (path("store"), path("there.twz"), path("back.twz"), path("nvm.img"));
    let text = machine.write("first", "Dear reader\n");
    twz(&["create", &store]);
    twz(&["put", &store, &text, "letters/first"]);
    twz(&["export", &store, &archive]);
    twz(&["create", &image, "--size", "256M"]);
    twz(&["import", &image, &archive]);
    let said = machine.shell(&[
        "cat letters/first",
        "put-text letters/answer Dear writer",
        "kv put ages ada 36",
        "kv get ages ada",
    ]);
    assert_eq!(said, "Dear reader\n36\n");
    assert!(twz(&["check", &image]).ends_with("clean\n"));
    twz(&["export", &image, &back]);
    twz(&["import", &store, &back]);
    let answer = path("answer");
    twz(&["get", &store, "letters/answer", &answer]);
    assert_eq!(std::fs::read_to_string(answer).expect("written"), "Dear writer\n");
    assert!(twz(&["ls", "-l", &store]).contains("kv"), "the table came along, with its type");
    assert!(twz(&["check", &store]).ends_with("clean\n"));
    // And there again, where all is as it was.
    assert!(twz(&["import", &image, &back]).starts_with("0 objects and 0 names are new"));
}

#[test]
fn files_beyond_a_gibibyte_go_to_twizzler_and_back() {
    let machine = Machine::new("far");
    let path = |name: &str| machine.file(name).display().to_string();
    let (there, image, back) = (path("there"), path("nvm.img"), path("back"));
    let file = std::fs::File::create(&there).expect("a file");
    file.set_len((3 << 30) + 5).expect("sparse");
    std::os::unix::fs::FileExt::write_all_at(&file, b"far out", 2 << 30).expect("written");
    twz(&["create", &image, "--size", "256M"]);
    twz(&["put", &image, &there, "far"]);
    let said = machine.shell(&["mv far further", "ls -l", "selftest outgrows"]);
    assert!(said.contains("3221225477") && said.contains("1 passed, 0 failed"), "{said}");
    assert!(twz(&["check", &image]).ends_with("clean\n"));
    twz(&["get", &image, "further", &back]);
    let file = std::fs::File::open(&back).expect("a file");
    assert_eq!(file.metadata().expect("exists").len(), (3 << 30) + 5);
    let mut far = [0; 7];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut far, 2 << 30).expect("read");
    assert_eq!(&far, b"far out");
}

/// Runs a command line of the tutorial in a folder.
fn tutorial_command(line: &str, folder: &Path) -> Output {
    let workspace = xtask::paths::root().join("Cargo.toml");
    let of = |package: &str| {
        format!("{} run -q --manifest-path {} -p {package}", env!("CARGO"), workspace.display())
    };
    let machine = format!("{} run --accel tcg --timeout 60 --log kernel.log", env!("CARGO_BIN_EXE_xtask"));
    let line = match line.split_once(' ') {
        Some(("twz", rest)) => format!("{} -- {rest}", of("twz")),
        Some(("notes", rest)) => format!("{} --bin notes -- {rest}", of("twizzler-examples")),
        _ => line.replace("cargo run -- run", &machine),
    };
    Command::new("bash").arg("-c").arg(&line).current_dir(folder).output().expect("bash runs")
}

fn runs(line: &str, folder: &Path) -> String {
    let output = tutorial_command(line, folder);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Whether `said` has these lines in this order. What is left out is `...`: of lines, or of the rest of one.
fn has_lines(said: &str, wanted: &str) -> bool {
    let mut said = said.lines();
    wanted.lines().filter(|line| *line != "...").all(|line| match line.split_once("...") {
        Some((begin, _)) => said.any(|said| said.starts_with(begin)),
        None => said.any(|said| said == line || said.ends_with(line) && line.starts_with('"')),
    })
}

#[test]
fn notes_of_the_tutorial_outlive_machines_that_are_switched_off() {
    let machine = Machine::new("tutorial");
    let folder = machine.file("");
    for (author, text) in [("ada", "It rained."), ("bob", "Here, too."), ("ada", "It stopped.")] {
        runs(&format!("notes write {author} '{text}'"), &folder);
    }
    (1..=5).for_each(|n| drop(runs(&format!("notes write eve 'Note {n}.'"), &folder)));
    let tutorial =
        std::fs::read_to_string(xtask::paths::root().join("docs/tutorial.md")).expect("the tutorial");
    let sessions: Vec<&str> = tutorial.split("```twizzler\n").skip(1).collect();
    assert_eq!(sessions.len(), 3);
    for session in sessions {
        let session = session.split("\n```").next().unwrap_or_default();
        for step in format!("\n{session}\n").split("\n$ ").skip(1) {
            let (command, wanted) = step.split_once('\n').unwrap_or((step, ""));
            let said = runs(command, &folder);
            assert!(has_lines(&said, wanted), "$ {command}\n{said}");
        }
    }
    assert!(runs("notes read", &folder).ends_with("ada (2): It rained.\n"));
}
