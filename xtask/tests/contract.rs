//! What people's scripts rely on: statuses, and who writes where (`docs/running.md`).
#![forbid(unsafe_code)]

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Machine, Run, xtask};
use xtask::status;

fn refused(arguments: &[&str], says: &str) {
    let output = xtask(arguments).output().expect("xtask starts");
    let run = Run::of(output, "none".into());
    assert_eq!(run.status, i32::from(status::NOT_STARTED), "{arguments:?}\n{run}");
    assert!(run.stdout.is_empty(), "{arguments:?}\n{run}");
    assert!(run.stderr.contains(says), "{arguments:?} should say {says:?}\n{run}");
}

#[test]
fn stdout_carries_the_commands_output_alone() {
    let machine = Machine::new("stdout");
    let run = machine.run(&["-c", "echo one", "-c", "echo two"]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "one\ntwo\n"), "{run}");
}

#[test]
fn status_is_that_of_the_last_command() {
    let machine = Machine::new("status");
    let run = machine.run(&["-c", "no-such-command", "-c", "echo fine"]);
    assert_eq!(run.status, 0, "{run}");
    let run = machine.run(&["-c", "echo fine", "-c", "cat no-such-name"]);
    assert_eq!(run.status, 1, "{run}");
    assert_eq!(run.stdout, "fine\n", "{run}");
    assert!(run.stderr.contains("no-such-name"), "{run}");
}

#[test]
fn commands_come_from_stdin_where_that_is_no_terminal() {
    use std::io::Write;
    let machine = Machine::new("stdin");
    let mut command = machine.command(&[]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("xtask starts");
    child.stdin.take().expect("piped").write_all(b"echo from stdin\n").expect("xtask reads");
    let run = Run::of(child.wait_with_output().expect("xtask ends"), machine.file("kernel.log"));
    assert_eq!((run.status, run.stdout.as_str()), (0, "from stdin\n"), "{run}");
}

#[test]
fn time_that_is_up_has_its_status() {
    let machine = Machine::new("timeout");
    let mut command = machine.command(&["-c", "echo hello"]);
    command.args(["--timeout", "0.02"]);
    let run = Run::of(command.output().expect("xtask starts"), machine.file("kernel.log"));
    assert_eq!(run.status, i32::from(status::TIMEOUT), "{run}");
    assert!(run.stderr.contains("kernel.log"), "{run}");
}

#[test]
fn files_go_in_and_come_out_unchanged() {
    let machine = Machine::new("files");
    let text = "Grüße,\nüber zwei Zeilen\n".repeat(1000);
    let put = machine.write("in.txt", &text);
    let out = machine.file("out.txt");
    let run = machine.run(&[
        "--put",
        &put,
        "--put",
        &format!("{put}=other"),
        "--get",
        &format!("other={}", out.display()),
        "-c",
        "cat in.txt",
    ]);
    assert_eq!(run.status, 0, "{run}");
    assert!(run.stdout == text, "the machine shows something else than what was put in\n{}", run.stderr);
    assert!(std::fs::read_to_string(out).expect("got") == text);
    let run = machine.run(&["-c", "echo fine", "--get", &format!("nothing={}", machine.file("x").display())]);
    assert_eq!(run.status, i32::from(status::GET_FAILED), "{run}");
    assert!(run.stderr.contains("nothing"), "{run}");
}

#[test]
fn what_cannot_start_says_why_and_what_to_do() {
    let machine = Machine::new("refused");
    refused(&["run", "--nvm-size", "lots"], "lots");
    refused(&["run", "--no-such-option"], "--no-such-option");
    refused(&["run", "-c", "true", "--put", "/no/such/file"], "/no/such/file");
    refused(&["run", "-c", "true", "--get", "a=/no/such/folder/b"], "/no/such/folder");
    refused(&["run", "-c", "true", "--memory", "1M"], "--memory");
    refused(&["run", "-c", "two\nlines"], "its own -c");
    let nvm = machine.write("short.img", vec![1; 12345]);
    refused(&["run", "-c", "true", "--nvm", &nvm], "truncated");
    refused(&["run", "-c", "true", "--nvm", "/"], "--nvm");
    refused(&["run", "-c", "true", "--nvm", "/no/such/folder/nvm"], "/no/such/folder");
}

#[test]
fn nvm_of_a_running_machine_is_refused() {
    let machine = Machine::new("locked");
    let mut first =
        machine.command(&["--kernel-arguments", ""]).stdout(Stdio::null()).spawn().expect("xtask starts");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !machine.file("kernel.log").metadata().is_ok_and(|log| log.len() > 0) {
        assert!(Instant::now() < deadline, "the machine does not boot");
        std::thread::sleep(Duration::from_millis(20));
    }
    let nvm = machine.nvm().display().to_string();
    refused(&["run", "-c", "echo", "--nvm", &nvm], "in use");
    // Its QEMU ends with it.
    first.kill().expect("runs");
    first.wait().expect("ends");
}
