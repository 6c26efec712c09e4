//! What goes on during long steps: a bar or spinner where a person looks on, plain lines elsewhere.
//!
//! All of it goes to stderr; stdout belongs to the commands' output.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Whether a person looks on: stdout and stderr are terminals.
#[must_use]
pub fn watched() -> bool {
    std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

/// Writes one line to stderr.
pub fn say(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
}

/// A bar over `steps` steps; invisible where nobody looks on.
#[must_use]
pub fn bar(steps: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), target());
    let style = ProgressStyle::with_template("{msg:<28} [{bar:30}] {pos}/{len} {elapsed}")
        .expect("template is well formed");
    bar.set_style(style);
    bar.set_message(what.to_owned());
    bar
}

/// Runs a command that takes long, showing that it lives and what it says last. Its output is kept
/// back, and shown if it fails.
///
/// # Errors
/// The command can't be started, or fails: with the end of what it said.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    let spinner = ProgressBar::with_draw_target(None, target());
    spinner.set_style(
        ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("template is well formed"),
    );
    spinner.set_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    if !watched() {
        say(format!("{what} ..."));
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start {}", command.get_program().display()))?;
    let output = follow(child.stderr.take().expect("stderr is piped"), &spinner, what);
    let status = child.wait()?;
    spinner.finish_and_clear();
    if !status.success() {
        let tail: Vec<&str> = output.lines().rev().take(30).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{what}: {status}\n{}", tail.join("\n"));
    }
    say(format!("{what}: done in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

fn follow(stream: impl Read, spinner: &ProgressBar, what: &str) -> String {
    let mut all = String::new();
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let short: String = line.trim().chars().take(60).collect();
        spinner.set_message(format!("{what}: {short}"));
        all.push_str(&line);
        all.push('\n');
    }
    all
}

fn target() -> ProgressDrawTarget {
    if watched() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
