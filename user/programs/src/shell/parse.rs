//! From a line of text to commands.
//!
//! Words are separated by blanks. `'…'` quotes everything, `"…"` everything but `\` and `$`, `\` the next
//! character. `$?` is the last status. `;` and the line's end separate commands, `&&` and `||` make the next
//! one depend on the status; `> NAME` and `>> NAME` send the output to an object; `#` starts a comment.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// When a command is run, given how the one before it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// In any case.
    Always,
    /// If the status is 0.
    Success,
    /// If it is not.
    Failure,
}

/// Where output goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// The object's name.
    pub name: String,
    /// After what it holds, rather than in its place.
    pub append: bool,
}

/// One command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// When it is run.
    pub condition: Condition,
    /// Its name and arguments; not empty.
    pub words: Vec<String>,
    /// Where its output goes, if not to the console.
    pub output: Option<Redirect>,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// A quote is not closed.
    OpenQuote(char),
    /// An operator that means nothing here.
    Unsupported(char),
    /// An operator without a command before it.
    NoCommand(&'static str),
    /// `>` without exactly one name.
    NoName,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenQuote(quote) => {
                write!(f, "{quote} is not closed; quote or escape it to use it as text")
            }
            Self::Unsupported(operator) => {
                write!(f, "`{operator}` means nothing here; quote it to use it as text")
            }
            Self::NoCommand(operator) => write!(f, "`{operator}` needs a command before it"),
            Self::NoName => f.write_str("`>` needs one name after it, that of the object to write"),
        }
    }
}

/// The commands of a text, one after the other.
#[derive(Clone, Debug)]
pub struct Commands<'a> {
    rest: core::iter::Peekable<core::str::Chars<'a>>,
    condition: Condition,
}

/// What ends or separates words.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Word(String),
    Output { append: bool },
    Then(Condition),
    End,
}

impl<'a> Commands<'a> {
    /// The commands of `text`, if all of it can be read.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn new(text: &'a str) -> Result<Self, ParseError> {
        let commands = Self { rest: text.chars().peekable(), condition: Condition::Always };
        let mut check = commands.clone();
        while check.next(0)?.is_some() {}
        Ok(commands)
    }

    /// The next command, where `$?` is `status`.
    ///
    /// # Errors
    /// None that [`Commands::new`] has not found.
    pub fn next(&mut self, status: u64) -> Result<Option<Command>, ParseError> {
        loop {
            let condition = self.condition;
            let mut words = Vec::new();
            let mut output = None;
            let end = loop {
                match self.token(status)? {
                    Token::Word(word) => words.push(word),
                    Token::Output { append } => match (self.token(status)?, &output) {
                        (Token::Word(name), None) => output = Some(Redirect { name, append }),
                        _ => return Err(ParseError::NoName),
                    },
                    end => break end,
                }
            };
            let last = end == Token::End;
            let operator = match end {
                Token::Then(Condition::Success) => "&&",
                Token::Then(Condition::Failure) => "||",
                _ => "",
            };
            self.condition = if let Token::Then(condition) = end { condition } else { Condition::Always };
            if !words.is_empty() {
                return Ok(Some(Command { condition, words, output }));
            }
            if output.is_some() {
                return Err(ParseError::NoCommand(">"));
            }
            if !operator.is_empty() {
                return Err(ParseError::NoCommand(operator));
            }
            if condition != Condition::Always && last {
                return Err(ParseError::NoCommand(";"));
            }
            if last {
                return Ok(None);
            }
        }
    }

    fn token(&mut self, status: u64) -> Result<Token, ParseError> {
        let separates = |c: &char| *c != '\n' && c.is_whitespace();
        while self.rest.next_if(separates).is_some() {}
        let Some(&first) = self.rest.peek() else { return Ok(Token::End) };
        match first {
            '#' => {
                while self.rest.next_if(|&c| c != '\n').is_some() {}
                self.token(status)
            }
            ';' | '\n' | '>' | '&' | '|' | '<' | '(' | ')' => {
                self.rest.next();
                self.operator(first)
            }
            _ => self.word(status).map(Token::Word),
        }
    }

    fn operator(&mut self, first: char) -> Result<Token, ParseError> {
        let twice = self.rest.next_if_eq(&first).is_some();
        match (first, twice) {
            (';' | '\n', _) => Ok(Token::Then(Condition::Always)),
            ('>', append) => Ok(Token::Output { append }),
            ('&', true) => Ok(Token::Then(Condition::Success)),
            ('|', true) => Ok(Token::Then(Condition::Failure)),
            _ => Err(ParseError::Unsupported(first)),
        }
    }

    fn word(&mut self, status: u64) -> Result<String, ParseError> {
        let mut word = String::new();
        while let Some(&c) = self.rest.peek() {
            if c.is_whitespace() || ";>&|<()".contains(c) {
                break;
            }
            self.rest.next();
            match c {
                '\'' => self.quoted(&mut word)?,
                '"' => self.half_quoted(&mut word, status)?,
                '\\' => word.extend(self.rest.next()),
                '$' => self.variable(&mut word, status),
                _ => word.push(c),
            }
        }
        Ok(word)
    }

    fn quoted(&mut self, word: &mut String) -> Result<(), ParseError> {
        loop {
            match self.rest.next().ok_or(ParseError::OpenQuote('\''))? {
                '\'' => return Ok(()),
                c => word.push(c),
            }
        }
    }

    fn half_quoted(&mut self, word: &mut String, status: u64) -> Result<(), ParseError> {
        let open = ParseError::OpenQuote('"');
        loop {
            match self.rest.next().ok_or(open)? {
                '"' => return Ok(()),
                '\\' => match self.rest.next().ok_or(open)? {
                    c @ ('"' | '\\' | '$') => word.push(c),
                    c => word.extend(['\\', c]),
                },
                '$' => self.variable(word, status),
                c => word.push(c),
            }
        }
    }

    fn variable(&mut self, word: &mut String, status: u64) {
        if self.rest.next_if_eq(&'?').is_some() {
            word.push_str(&status.to_string());
        } else {
            word.push('$');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let mut commands = Commands::new(text).expect("can be read");
        core::iter::from_fn(|| commands.next(7).expect("checked")).map(|command| command.words).collect()
    }

    #[test]
    fn words_are_separated_and_quoted() {
        assert_eq!(words("  a  b\tc "), [["a", "b", "c"]]);
        assert_eq!(words(r#"a 'b c' "d e" f\ g"#), [["a", "b c", "d e", "f g"]]);
        assert_eq!(words(r#"'a'"b"c '' "" "\"\\\$\n" '\'"#), [["abc", "", "", r#""\$\n"#, "\\"]]);
        assert_eq!(words(r"echo a#b \# # not this"), [["echo", "a#b", "#"]]);
        assert!(words("").is_empty() && words(" # only this").is_empty() && words(" ; ;; \n").is_empty());
    }

    #[test]
    fn the_status_is_put_in() {
        assert_eq!(words(r#"$? "$?" '$?' $x $"#), [["7", "7", "$?", "$x", "$"]]);
    }

    #[test]
    fn commands_are_separated() {
        assert_eq!(words("a 1;b 2 ; c\nd"), [vec!["a", "1"], vec!["b", "2"], vec!["c"], vec!["d"]]);
        let mut commands = Commands::new("a && b || c; d").expect("good");
        let conditions: Vec<_> = core::iter::from_fn(|| commands.next(0).expect("good"))
            .map(|command| command.condition)
            .collect();
        let expected = [Condition::Always, Condition::Success, Condition::Failure, Condition::Always];
        assert_eq!(conditions, expected);
    }

    #[test]
    fn output_is_redirected() {
        let redirected = |text: &str| Commands::new(text).expect("good").next(0).expect("good").expect("one");
        let command = redirected("echo a > 'x y' b");
        assert_eq!(command.words, ["echo", "a", "b"]);
        assert_eq!(command.output, Some(Redirect { name: "x y".into(), append: false }));
        assert_eq!(redirected(">>x echo").output, Some(Redirect { name: "x".into(), append: true }));
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let error = |text| Commands::new(text).expect_err("must be refused");
        assert_eq!(error("a 'b"), ParseError::OpenQuote('\''));
        assert_eq!(error("good; a \"b\\"), ParseError::OpenQuote('"'));
        assert_eq!(error("a | b"), ParseError::Unsupported('|'));
        assert_eq!(error("a < b"), ParseError::Unsupported('<'));
        assert_eq!(error("a &"), ParseError::Unsupported('&'));
        assert_eq!(error("a >"), ParseError::NoName);
        assert_eq!(error("a > ; b"), ParseError::NoName);
        assert_eq!(error("a > b > c"), ParseError::NoName);
        assert_eq!(error("> b"), ParseError::NoCommand(">"));
        assert_eq!(error("&& b"), ParseError::NoCommand("&&"));
        assert_eq!(error("a || && b"), ParseError::NoCommand("&&"));
        assert_eq!(error("a &&"), ParseError::NoCommand(";"));
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in r#"[ a'"\\$?;&|>#\n]{0,40}"#) {
            if let Ok(mut commands) = Commands::new(&text) {
                while let Some(command) = commands.next(1).expect("checked") {
                    prop_assert!(!command.words.is_empty());
                }
            }
        }

        #[test]
        fn quoted_words_come_back(words in prop::collection::vec("[^']{0,8}", 1..5)) {
            let line = words.iter().map(|word| alloc::format!("'{word}'")).collect::<Vec<_>>().join(" ");
            let command = Commands::new(&line).expect("quoted").next(0).expect("quoted").expect("one");
            prop_assert_eq!(command.words, words);
        }
    }
}
