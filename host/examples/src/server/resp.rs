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

/// The command at the beginning of `input` and the bytes that it takes. None: not all of it has arrived.
///
/// An empty command is one to ignore, as an empty line is.
///
/// # Errors
/// That it is none.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Command, usize)>, ProtocolError> {
    if input.first() != Some(&b'*') {
        let Some((line, used)) = line(input, 0)? else { return Ok(None) };
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Ok(Some((words.map(<[u8]>::to_vec).collect(), used)));
    }
    let Some((count, mut at)) = number(input, 0, b'*')? else { return Ok(None) };
    if count > ARGUMENTS_MAX as i64 {
        return Err(ProtocolError("invalid multibulk length"));
    }
    let mut command = Vec::with_capacity(count.clamp(0, 64) as usize);
    for _ in 0..count.max(0) {
        let Some((len, start)) = number(input, at, b'$')? else { return Ok(None) };
        let len = usize::try_from(len).ok().filter(|&len| len <= ARGUMENT_BYTES_MAX);
        let len = len.ok_or(ProtocolError("invalid bulk length"))?;
        let Some(rest) = input.get(start..start + len + 2) else { return Ok(None) };
        let (argument, end) = rest.split_at(len);
        if end != b"\r\n" {
            return Err(ProtocolError("expected the end of a bulk string"));
        }
        command.push(argument.to_vec());
        at = start + len + 2;
    }
    Ok(Some((command, at)))
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
pub(super) struct Replies(Vec<u8>);

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
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Bytes, or that there are none.
    pub(super) fn bulk_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.0.extend_from_slice(b"$-1\r\n"),
        }
    }

    /// The beginning of a list; so many replies are its items.
    pub(super) fn array(&mut self, len: usize) {
        self.line(b'*', &len.to_string());
    }

    /// That there is no list.
    pub(super) fn nil_array(&mut self) {
        self.0.extend_from_slice(b"*-1\r\n");
    }

    /// A list of bytes.
    pub(super) fn bulks(&mut self, items: impl ExactSizeIterator<Item = impl AsRef<[u8]>>) {
        self.array(items.len());
        items.for_each(|item| self.bulk(item.as_ref()));
    }

    fn line(&mut self, mark: u8, text: &str) {
        self.0.push(mark);
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    /// Adds others.
    pub(super) fn append(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// How much there is.
    #[must_use]
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// True where there is nothing.
    #[must_use]
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what was written after there were `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// The bytes.
    #[must_use]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes away what was sent.
    pub(super) fn sent(&mut self, len: usize) {
        self.0.drain(..len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(command: &[Vec<u8>]) -> Vec<u8> {
        let mut replies = Replies::default();
        replies.bulks(command.iter());
        replies.0
    }

    #[test]
    fn inline_commands_are_words() {
        assert_eq!(parse(b"SET  a b\r\nrest"), Ok(Some((vec![b"SET".into(), b"a".into(), b"b".into()], 10))));
        assert_eq!(parse(b"\r\n"), Ok(Some((vec![], 2))));
        assert_eq!(parse(b"PING"), Ok(None));
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
