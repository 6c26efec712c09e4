//! What the system is measured with: the lines in which a program inside a machine reports its figures.
//!
//! Each figure is one line `bench NAME NS`: time in nanoseconds for one operation, as the machine's own
//! clock tells it. The programs are `bench` of Twizzler and `examples/linux_peer.rs`, which is the first
//! and only process of a Linux guest. `cargo run -- bench` runs both side by side.
#![forbid(unsafe_code)]

/// A figure that a program reported.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Time for one operation.
    pub ns: f64,
}

/// The figure that a line of output holds, if it holds one.
#[must_use]
pub fn figure(line: &str) -> Option<Figure> {
    let mut words = line.trim_end().strip_prefix("bench ")?.split_whitespace();
    let name = words.next()?.to_owned();
    let ns = words.next()?.parse().ok()?;
    Some(Figure { name, ns })
}

/// The line that reports a figure.
#[must_use]
pub fn line(name: &str, ns: f64) -> String {
    format!("bench {name} {ns:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_back_from_their_lines() {
        let figure_read = figure(&line("null_call", 123.4)).expect("well formed");
        assert_eq!(figure_read, Figure { name: "null_call".into(), ns: 123.4 });
        assert_eq!(figure("bench x"), None);
        assert_eq!(figure("[    0.1] bench"), None);
    }
}
