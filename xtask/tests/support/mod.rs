//! What the tests that boot the machine share: a machine with an NVM file and log of its own, run through
//! the very command that people give.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A machine whose NVM lasts as long as the test.
pub(crate) struct Machine {
    folder: PathBuf,
    arguments: Vec<String>,
    timeout_s: u32,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) log: PathBuf,
}

impl Machine {
    /// A machine with fresh NVM.
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("target folder is writable");
        Self { folder, arguments: Vec::new(), timeout_s: 60 }
    }

    /// With further arguments for `run`.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// With another limit than a minute.
    pub(crate) fn within(mut self, timeout_s: u32) -> Self {
        self.timeout_s = timeout_s;
        self
    }

    /// A file in the machine's folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The NVM file.
    pub(crate) fn nvm(&self) -> PathBuf {
        self.file("nvm.img")
    }

    /// Writes a file to put.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.file(name);
        std::fs::write(&path, contents).expect("target folder is writable");
        path.display().to_string()
    }

    /// `run` with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = xtask(&["run", "--nvm-size", "256M", "--accel", "tcg"]);
        if self.nvm().exists() {
            command = xtask(&["run", "--accel", "tcg"]);
        }
        command.arg("--nvm").arg(self.nvm()).arg("--log").arg(self.log());
        command.args(["--timeout", &self.timeout_s.to_string()]).args(&self.arguments).args(arguments);
        command
    }

    /// Runs the machine with these arguments to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().expect("xtask starts"), self.log())
    }

    /// Runs shell commands; each must end well. Gives what they print.
    pub(crate) fn shell(&self, commands: &[&str]) -> String {
        let arguments: Vec<&str> = commands.iter().flat_map(|&command| ["-c", command]).collect();
        let run = self.run(&arguments);
        assert_eq!(run.status, 0, "{commands:?} failed\n{run}");
        run.stdout
    }

    fn log(&self) -> PathBuf {
        self.file("kernel.log")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

impl Run {
    pub(crate) fn of(output: Output, log: PathBuf) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            log,
        }
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, stdout, stderr, log } = self;
        write!(
            f,
            "status {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n--- kernel log: {}",
            log.display()
        )
    }
}

/// `cargo run --` with these arguments, without input.
pub(crate) fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).stdin(Stdio::null());
    command
}
