//! What goes on during long work: a bar on stderr where a person looks on, nothing elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `bytes`.
#[must_use]
pub fn of_bytes(bytes: u64, what: &str) -> ProgressBar {
    bar(bytes, what, "{msg:<24} [{bar:30}] {bytes}/{total_bytes} {elapsed}")
}

/// A bar over `steps` of something.
#[must_use]
pub fn of_steps(steps: u64, what: &str) -> ProgressBar {
    bar(steps, what, "{msg:<24} [{bar:30}] {pos}/{len} {elapsed}")
}

fn bar(length: u64, what: &str, template: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    bar.set_style(ProgressStyle::with_template(template).expect("templates are well formed"));
    bar.set_message(what.to_owned());
    bar
}
