//! Images on a host's disk that is full: each command ends with words, nothing is lost, and what is removed gives room.
//!
//! The disk is a small file system in memory, which a process may mount that has a user namespace of its own.

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use common::Bed;

const FILE_BYTES: usize = 300_000;

/// Runs one of the tests below on a disk of 8 MiB. Where the host allows no such mounts, there is nothing to be tested.
fn on_a_small_disk(test: &str) {
    let bed = Bed::new();
    let disk = bed.path("disk");
    fs::create_dir(&disk).expect("a folder");
    let mount = [
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs -o size=8m none \"$0\" && exec \"$@\"",
    ];
    let run = |what: &[&str]| {
        Command::new("unshare").args(mount).arg(&disk).args(what).env("SMALL_DISK", &disk).output()
    };
    if !run(&["true"]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let us = std::env::current_exe().expect("Linux");
    let us = us.to_str().expect("a plain path");
    let output = run(&[us, "--exact", test, "--ignored", "--nocapture"]).expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "no test is called {test}");
}

#[test]
fn commands_on_a_full_disk_say_so_and_lose_nothing() {
    on_a_small_disk("each_command");
}

#[test]
fn what_fills_the_disk_is_given_back() {
    on_a_small_disk("a_large_file");
}

/// An image with two files and a directory, on the small disk.
fn image() -> Bed {
    let disk = std::env::var_os("SMALL_DISK").expect("started by `on_a_small_disk`");
    let bed = Bed::within(Path::new(&disk));
    bed.ok(&["create", "i", "--size", "64M"]);
    bed.write("file", content());
    bed.ok(&["put", "i", "file", "a"]);
    bed.ok(&["put", "i", "file", "b"]);
    bed.ok(&["mkdir", "i", "d"]);
    bed.ok(&["export", "i", "archive"]);
    bed
}

fn content() -> Vec<u8> {
    (0..FILE_BYTES as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Leaves no page free.
fn fill(bed: &Bed) {
    let mut file = File::create(bed.path("fill")).expect("a file");
    while file.write_all(&[1; 4096]).is_ok() {}
}

fn assert_sound(bed: &Bed) {
    let run = bed.run(&["check", "i"]);
    assert!(run.status == 0 && run.stdout.ends_with("clean\n"), "{run:?}");
    let mut get = bed.command(&["get", "i", "a", "-"]).stdout(Stdio::piped()).spawn().expect("twz starts");
    let mut got = Vec::new();
    get.stdout.take().expect("piped").read_to_end(&mut got).expect("a pipe");
    assert!(get.wait().expect("it ends").success() && got == content());
}

/// Runs a command with ever new names until there is no room for it.
fn until_full(bed: &Bed, command: impl Fn(&str) -> Vec<String>) {
    for number in 0..1000 {
        let arguments = command(&format!("{number:0>60}"));
        let run = bed.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_sound(bed);
        if run.status != 0 {
            return run.failed(6, "full");
        }
    }
    panic!("the disk never is full");
}

#[test]
#[ignore = "is started on a small disk"]
fn each_command() {
    let bed = image();
    bed.write("half", &content()[..FILE_BYTES / 2]);
    fill(&bed);
    bed.fails(6, "full", &["create", "new", "--size", "64M"]);
    assert!(!bed.path("new").exists());
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    until_full(&bed, |name| words(&["put", "i", "file", &format!("f{name}")]));
    until_full(&bed, |name| words(&["mkdir", "i", name]));
    until_full(&bed, |name| words(&["ln", "i", "a", &format!("a{name}")]));
    until_full(&bed, |name| words(&["import", "i", "archive", "--into", &format!("i{name}")]));
    bed.fails(6, "full", &["put", "i", "file", "b"]);
    bed.fails(6, "no space left", &["import", "--replace", "i", "archive"]);
    // These need none, or what is kept back.
    bed.ok(&["ls", "-l", "i"]);
    bed.ok(&["repair", "i"]);
    bed.ok(&["gc", "i", "--delete"]);
    assert_sound(&bed);
    bed.ok(&["rm", "i", "b"]);
    assert_sound(&bed);
    bed.ok(&["put", "i", "half", "c"]);
    bed.ok(&["mkdir", "i", "e"]);
    assert_sound(&bed);
    // Room is made.
    fs::remove_file(bed.path("fill")).expect("it is there");
    bed.ok(&["put", "i", "file", "b"]);
    bed.ok(&["mv", "i", "b", "e"]);
    bed.ok(&["create", "new", "--size", "64M"]);
    bed.ok(&["import", "--replace", "new", "archive"]);
    assert_sound(&bed);
}

#[test]
#[ignore = "is started on a small disk"]
fn a_large_file() {
    let bed = image();
    let large = tempfile::NamedTempFile::new().expect("another disk");
    fs::write(&large, vec![7; 16 << 20]).expect("room there");
    bed.fails(6, "full", &["put", "i", large.path().to_str().expect("plain"), "large"]);
    assert_sound(&bed);
    bed.ok(&["put", "i", "file", "c"]);
    bed.ok(&["mkdir", "i", "e"]);
    bed.ok(&["mv", "i", "c", "e"]);
    bed.ok(&["rm", "-r", "i", "e", "b"]);
    assert_sound(&bed);
}
