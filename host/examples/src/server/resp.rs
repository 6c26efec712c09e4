//! The Redis serialisation protocol, version 2: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

/// Longest argument.
pub(super) const ARGUMENT_BYTES_MAX: usize = 64 << 20;
/// Most arguments of one command.
pub(super) const ARGUMENTS_MAX: usize = 1 << 20;
/// Longest line.
const LINE_BYTES_MAX: usize = 64 << 10;

/// What a client sent makes no sense; the connection is to be closed after this message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProtocolError(pub &'static str);

/// A command: its name and arguments.
pub(super) type Command = Vec<Vec<u8>>;

/// What an argument costs besides its bytes.
pub(super) const ARGUMENT_COST_BYTES: usize = 32;

/// Memory that a command takes, roughly.
pub(super) fn cost_bytes(command: &[Vec<u8>]) -> usize {
    command.iter().map(|argument| argument.len() + ARGUMENT_COST_BYTES).sum()
}

/// Reads commands from what arrives part by part; no part is read twice, but the beginning of an argument.
#[derive(Default, Debug)]
pub(super) struct Parser {
    /// The arguments so far of the command that it is at.
    command: Command,
    bytes: usize,
    /// How many more there are; 0: it is at no command.
    missing: usize,
}

impl Parser {
    /// Reads on in `input`, which begins where it left off. Gives how many bytes it took, and the command if they are its last ones.
    ///
    /// An empty command is one to ignore, as an empty line is.
    ///
    /// # Errors
    /// That it is none.
    pub(super) fn parse(&mut self, input: &[u8]) -> Result<(usize, Option<Command>), ProtocolError> {
        let mut at = 0;
        if self.missing == 0 {
            if input.first() != Some(&b'*') {
                let Some((line, used)) = line(input, 0)? else { return Ok((0, None)) };
                let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                return Ok((used, Some(words.map(<[u8]>::to_vec).collect())));
            }
            let Some((count, next)) = number(input, 0, b'*')? else { return Ok((0, None)) };
            if count > ARGUMENTS_MAX as i64 {
                return Err(ProtocolError("invalid multibulk length"));
            }
            at = next;
            self.missing = count.max(0) as usize;
            self.command = Vec::with_capacity(self.missing.min(64));
        }
        while self.missing > 0 {
            let Some((len, start)) = number(input, at, b'$')? else { return Ok((at, None)) };
            let len = usize::try_from(len).ok().filter(|&len| len <= ARGUMENT_BYTES_MAX);
            let len = len.ok_or(ProtocolError("invalid bulk length"))?;
            let Some(rest) = input.get(start..start + len + 2) else { return Ok((at, None)) };
            let (argument, end) = rest.split_at(len);
            if end != b"\r\n" {
                return Err(ProtocolError("expected the end of a bulk string"));
            }
            self.command.push(argument.to_vec());
            self.bytes += len + ARGUMENT_COST_BYTES;
            self.missing -= 1;
            at = start + len + 2;
        }
        self.bytes = 0;
        Ok((at, Some(std::mem::take(&mut self.command))))
    }

    /// Memory that the arguments so far take, roughly.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The line at `at` without its end, and where the next begins.
fn line(input: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let rest = input.get(at..).unwrap_or(&[]);
    match rest.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') {
        Some(end) => Ok(Some((rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), at + end + 1))),
        None if rest.len() >= LINE_BYTES_MAX => Err(ProtocolError("too big inline request")),
        None => Ok(None),
    }
}

/// The number in the line at `at`, which begins with `mark`.
fn number(input: &[u8], at: usize, mark: u8) -> Result<Option<(i64, usize)>, ProtocolError> {
    let Some((line, next)) = line(input, at)? else { return Ok(None) };
    let wrong = ProtocolError("expected a length");
    let digits = line.strip_prefix(&[mark]).ok_or(wrong)?;
    Ok(Some((integer(digits).ok_or(wrong)?, next)))
}

/// A decimal number, as clients write it.
#[must_use]
pub(super) fn integer(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// Replies on their way to a client.
#[derive(Clone, Default, Debug)]
pub(super) struct Replies {
    bytes: Vec<u8>,
    /// As many of them were sent.
    sent: usize,
}

impl Replies {
    /// A status, such as `OK`.
    pub(super) fn status(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error, which begins with a code such as `ERR`.
    pub(super) fn error(&mut self, text: &str) {
        self.line(b'-', &text.replace(['\r', '\n'], " "));
    }

    /// A number.
    pub(super) fn integer(&mut self, number: i64) {
        self.line(b':', &number.to_string());
    }

    /// Bytes.
    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.line(b'$', &bytes.len().to_string());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Bytes, or that there are none.
    pub(super) fn bulk_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.bytes.extend_from_slice(b"$-1\r\n"),
        }
    }

    /// The beginning of a list; so many replies are its items.
    pub(super) fn array(&mut self, len: usize) {
        self.line(b'*', &len.to_string());
    }

    /// That there is no list.
    pub(super) fn nil_array(&mut self) {
        self.bytes.extend_from_slice(b"*-1\r\n");
    }

    /// A list of bytes.
    pub(super) fn bulks(&mut self, items: impl ExactSizeIterator<Item = impl AsRef<[u8]>>) {
        self.array(items.len());
        items.for_each(|item| self.bulk(item.as_ref()));
    }

    fn line(&mut self, mark: u8, text: &str) {
        self.bytes.push(mark);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Adds others, which are taken away.
    pub(super) fn append(&mut self, others: &mut Self) {
        if self.is_empty() {
            *self = std::mem::take(others);
        } else {
            self.bytes.append(&mut others.bytes);
        }
    }

    /// How much there is.
    #[must_use]
    pub(super) const fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// True where there is nothing.
    #[must_use]
    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    #[must_use]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes away what was sent.
    pub(super) fn sent(&mut self, len: usize) {
        self.sent += len;
        if self.is_empty() {
            *self = Self::default();
        } else if self.sent > self.bytes.len() / 2 {
            // Not each time: what stays is moved.
            self.bytes.drain(..std::mem::take(&mut self.sent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(command: &[Vec<u8>]) -> Vec<u8> {
        let mut replies = Replies::default();
        replies.bulks(command.iter());
        replies.bytes
    }

    /// The command at the beginning and the bytes that it takes.
    fn parse(input: &[u8]) -> Result<Option<(Command, usize)>, ProtocolError> {
        Parser::default().parse(input).map(|(used, command)| command.map(|command| (command, used)))
    }

    #[test]
    fn inline_commands_are_words() {
        assert_eq!(parse(b"SET  a b\r\nrest"), Ok(Some((vec![b"SET".into(), b"a".into(), b"b".into()], 10))));
        assert_eq!(parse(b"\r\n"), Ok(Some((vec![], 2))));
        assert_eq!(parse(b"PING"), Ok(None));
    }

    #[test]
    fn a_command_in_many_parts_is_read_once() {
        let command = vec![b"a".to_vec(); 100_000];
        let bytes = encode(&command);
        let (mut parser, mut from, mut longest) = (Parser::default(), 0, 0);
        for to in (0..bytes.len()).step_by(7) {
            let (used, whole) = parser.parse(&bytes[from..to]).expect("a command's beginning");
            assert!(whole.is_none());
            longest = longest.max(to - from);
            from += used;
        }
        // Never more than an argument's beginning and a part.
        assert!(longest < 20, "{longest} bytes were read again");
        assert_eq!(parser.bytes(), (command.len() - 1) * (1 + ARGUMENT_COST_BYTES));
        assert_eq!(parser.parse(&bytes[from..]), Ok((bytes.len() - from, Some(command))));
        assert_eq!(parser.bytes(), 0);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            &b"*1\r\n:1\r\n"[..],
            b"*x\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$1\r\nabc",
            b"*9999999\r\n",
            b"*1\r\n$+1\r\n",
        ] {
            assert!(parse(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        assert!(parse(&[b'a'; LINE_BYTES_MAX]).is_err());
    }

    #[test]
    fn replies_are_encoded() {
        let mut replies = Replies::default();
        replies.status("OK");
        replies.error("ERR a\r\nb");
        replies.integer(-7);
        replies.bulk_or_nil(None);
        replies.bulks([b"x", b"y"].into_iter());
        replies.nil_array();
        assert_eq!(
            replies.as_bytes(),
            b"+OK\r\n-ERR a  b\r\n:-7\r\n$-1\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n*-1\r\n"
        );
    }

    proptest! {
        #[test]
        fn commands_arrive_whole_or_wait(command in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), rest: Vec<u8>) {
            let mut bytes = encode(&command);
            let len = bytes.len();
            for cut in 0..len {
                prop_assert_eq!(parse(&bytes[..cut]), Ok(None));
            }
            bytes.extend(rest);
            prop_assert_eq!(parse(&bytes), Ok(Some((command, len))));
        }

        #[test]
        fn anything_is_survived(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
