//! What the tests share: a folder with stores of both kinds, and the very program that people run.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Where a test's stores and files lie.
pub(crate) struct Bed {
    folder: TempDir,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The kinds of store: each test that isn't about one of them runs on both.
pub(crate) const KINDS: [&str; 2] = ["image", "directory"];

impl Bed {
    pub(crate) fn new() -> Self {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    pub(crate) fn within(folder: &Path) -> Self {
        Self { folder: tempfile::tempdir_in(folder).expect("temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a host file.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("in the folder")).expect("a folder");
        fs::write(&path, content).expect("a file");
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("a file")
    }

    /// Makes an empty store of that kind.
    pub(crate) fn store(&self, kind: &str, name: &str) {
        match kind {
            "image" => self.ok(&["create", name, "--size", "64M"]),
            _ => self.ok(&["create", name]),
        };
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twz"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs `twz` in the folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().expect("twz starts"))
    }

    /// The same with standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("twz starts");
        child.stdin.take().expect("piped").write_all(input).expect("twz reads");
        Run::of(child.wait_with_output().expect("twz ends"))
    }

    /// Runs what must end well. Gives what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.status, 0, "{arguments:?}\n{}{}", run.stdout, run.stderr);
        run.stdout
    }

    /// Runs what must fail so, and say `what`: the message must have advice and no innards.
    pub(crate) fn fails(&self, status: i32, what: &str, arguments: &[&str]) {
        let run = self.run(arguments);
        run.failed(status, what);
    }

    /// Runs a command line under a limit of the shell's; gives the status.
    pub(crate) fn limited(&self, limit: &str, command: &str) -> Option<i32> {
        let line = format!("ulimit {limit}; exec \"$0\" {command}");
        let mut sh = Command::new("sh");
        sh.args(["-c", &line, env!("CARGO_BIN_EXE_twz")]).current_dir(self.folder.path());
        sh.output().expect("sh starts").status.code()
    }

    /// The answer as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let run = self.run(&[&["--json"], arguments].concat());
        let mut json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!(json["twz"], 1);
        json["answer"].take()
    }
}

impl Run {
    fn of(output: std::process::Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn failed(&self, status: i32, what: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.stderr.contains(what), "{what:?} is not said: {self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        for innards in ["panicked", "os error", "RUST_BACKTRACE", "Err("] {
            assert!(!self.stderr.contains(innards), "{self:?}");
        }
    }
}

/// All bytes below a path, to see that nothing has changed.
pub(crate) fn content(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    if path.is_file() {
        return vec![(path.to_owned(), fs::read(path).expect("readable"))];
    }
    let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut entries: Vec<PathBuf> = entries.collect();
    entries.sort();
    entries.iter().flat_map(|entry| content(entry)).collect()
}
