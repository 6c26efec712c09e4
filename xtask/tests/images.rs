//! NVM files that are not as they should be: a clear message or a quarantined object, never a panic.
#![forbid(unsafe_code)]

mod support;

use std::fs;

use support::Machine;
use xtask::random::Random;
use xtask::status;

/// A machine whose NVM holds a text, a store and an index.
fn used(name: &str) -> Machine {
    let machine = Machine::new(name);
    let text = machine.write("text", "one two three\nfour\n".repeat(500));
    let run =
        machine.run(&["--put", &text, "-c", "index add text", "-c", "kv put s a 1", "-c", "create spare"]);
    assert_eq!(run.status, 0, "{run}");
    machine
}

/// Boots on a spoilt image: it may refuse its NVM or lose what was spoilt, but it lives.
fn survives(machine: &Machine, what: &str) {
    let run =
        machine.run(&["-c", "ls -l", "-c", "cat text", "-c", "kv scan s", "-c", "index stat", "-c", "nvm"]);
    assert!(run.status <= i32::from(status::COMMAND_MAX), "{what}: status {}\n{}", run.status, run.stderr);
}

#[test]
fn file_of_random_bytes_is_refused_and_not_touched() {
    let machine = Machine::new("random");
    let mut random = Random::new(7);
    let bytes: Vec<u8> = (0..64 << 20).map(|_| random.below(256) as u8).collect();
    fs::write(machine.nvm(), &bytes).expect("writable");
    let run = machine.run(&["-c", "ls"]);
    assert_ne!(run.status, 0, "{run}");
    assert!(run.status <= i32::from(status::COMMAND_MAX), "{run}");
    assert!(run.stderr.contains("not a Twizzler store") && run.stderr.contains("use another file"), "{run}");
    assert!(fs::read(machine.nvm()).expect("readable") == bytes, "a file that is not ours was written to");
}

#[test]
fn flipped_bytes_lose_nothing_else() {
    let machine = used("flipped");
    let good = fs::read(machine.nvm()).expect("readable");
    let written: Vec<usize> = (0..good.len()).filter(|&at| good[at] != 0).collect();
    let mut random = Random::new(11);
    for _ in 0..12 {
        let mut bad = good.clone();
        let at = *random.pick(&written);
        bad[at] ^= 1 << random.below(8);
        fs::write(machine.nvm(), &bad).expect("writable");
        survives(&machine, &format!("a flipped bit in byte {at:#x}"));
    }
}

#[test]
fn spoilt_superblocks_are_survived() {
    let machine = used("superblock");
    let good = fs::read(machine.nvm()).expect("readable");
    let mut bad = good.clone();
    bad[..4096].fill(0xff);
    fs::write(machine.nvm(), &bad).expect("writable");
    survives(&machine, "no first superblock");
    let mut bad = good;
    bad[8] ^= 0x10;
    fs::write(machine.nvm(), &bad).expect("writable");
    survives(&machine, "another version");
}

#[test]
fn truncated_image_is_survived() {
    let machine = used("truncated");
    let file = fs::OpenOptions::new().write(true).open(machine.nvm()).expect("writable");
    file.set_len(64 << 20).expect("truncates");
    drop(file);
    let run = machine.run(&["-c", "ls"]);
    assert_ne!(run.status, 0, "{run}");
    assert!(run.status <= i32::from(status::COMMAND_MAX), "{run}");
}

#[test]
fn full_nvm_is_an_error_and_loses_nothing() {
    let machine = Machine::new("full").with(&["--nvm-size", "16M"]);
    let text = machine.write("text", "word\n".repeat(400_000));
    let run = machine.run(&["--put", &text, "-c", "kv put s a 1"]);
    assert_eq!(run.status, 0, "{run}");
    let copies: Vec<String> = (0..12).map(|copy| format!("cp text copy{copy}")).collect();
    let arguments: Vec<&str> = copies.iter().flat_map(|copy| ["-c", copy.as_str()]).collect();
    let machine_now = Machine::new("full-again");
    fs::copy(machine.nvm(), machine_now.nvm()).expect("copies");
    let run = machine_now.run(&arguments);
    assert!((1..=i32::from(status::COMMAND_MAX)).contains(&run.status), "{run}");
    assert_eq!(machine_now.shell(&["kv get s a"]), "1\n");
}
