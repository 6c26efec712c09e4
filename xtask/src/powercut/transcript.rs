//! The script of one round, and what the machine said of it before the power was cut.

use super::model::{Change, Question};
use crate::corpus::Text;

const QUESTION: &str = "@question ";
const CHANGES: &str = "@changes";
const DONE: &str = "@done ";

/// The commands of one round: questions about what is there, then changes. The machine says of each change
/// that its command has returned.
pub(super) fn script(questions: &[Question], changes: &[Change], texts: &[Text]) -> String {
    let mut script = String::new();
    for (number, question) in questions.iter().enumerate() {
        script += &format!("echo {QUESTION}{number}\n{}\n", question.command());
    }
    script += &format!("echo {CHANGES}\n");
    for (number, change) in changes.iter().enumerate() {
        script += &format!("{} && echo {DONE}{number}\n", change.command(texts));
    }
    script
}

/// Whether all questions were answered, so that changes have begun.
pub(super) fn changes_began(output: &[u8]) -> bool {
    let marker = format!("{CHANGES}\n");
    output.windows(marker.len()).any(|window| window == marker.as_bytes())
}

/// What the machine said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transcript {
    /// The answers that are complete.
    pub(super) answers: Vec<String>,
    /// Whether all questions were answered, so that changes had begun.
    pub(super) changing: bool,
    /// Numbers of the changes whose commands have returned.
    pub(super) done: Vec<usize>,
}

impl Transcript {
    /// Reads the output up to where it was cut off. A line that was cut off counts for nothing.
    pub(super) fn read(output: &str) -> Self {
        let mut transcript = Self { answers: Vec::new(), changing: false, done: Vec::new() };
        let mut answer = None::<String>;
        for line in output.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            if let Some(number) = line.strip_prefix(DONE) {
                transcript.done.extend(number.trim().parse::<usize>());
            } else if line.starts_with(QUESTION) {
                transcript.answers.extend(answer.replace(String::new()));
            } else if line.trim_end() == CHANGES {
                transcript.answers.extend(answer.take());
                transcript.changing = true;
            } else if let Some(answer) = &mut answer {
                answer.push_str(line);
            }
        }
        transcript
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_counts_for_nothing() {
        let whole = "@question 0\n1\ta\n2\tb\n@question 1\n@changes\n@done 0\n@done 1\n";
        let read = Transcript::read(whole);
        assert_eq!(read.answers, ["1\ta\n2\tb\n", ""]);
        assert_eq!((read.changing, read.done), (true, vec![0, 1]));
        let read = Transcript::read(&whole[..whole.len() - 1]);
        assert_eq!(read.done, [0]);
        let read = Transcript::read("@question 0\n1\ta\n");
        assert_eq!((read.answers.len(), read.changing), (0, false));
    }
}
