//! Checks of a struct's layout, made while it is compiled. What they say is the compiler's error, at the field.

/// No bytes lie between a field and the one before it, which ends at `end`.
#[track_caller]
pub const fn no_gap_before(field: &str, end: usize, start: usize) {
    if end < start {
        let message = Message::new()
            .number(start - end)
            .text(" bytes of padding before the field `")
            .text(field)
            .text("`, which nobody would initialise. Put a field of that size there, `reserved: [u8; ")
            .number(start - end)
            .text("]`, or order the fields from the largest alignment to the smallest");
        panic!("{}", message.as_str());
    }
}

/// No bytes lie behind the last field, which ends at `end`.
#[track_caller]
pub const fn no_gap_at_end_of(record: &str, end: usize, size: usize) {
    if end < size {
        let message = Message::new()
            .number(size - end)
            .text(" bytes of padding at the end of `")
            .text(record)
            .text("`, which nobody would initialise. Add a last field of that size: `reserved: [u8; ")
            .number(size - end)
            .text("]`");
        panic!("{}", message.as_str());
    }
}

/// Nothing has to happen when a value goes away.
#[track_caller]
pub const fn no_drop_glue(record: &str, needs_drop: bool) {
    if needs_drop {
        let message = Message::new()
            .text("`")
            .text(record)
            .text(
                "` implements `Drop`, but what lies in an object outlives the program, and nobody drops it. Free what it owns in \
                 the transaction that unlinks it",
            );
        panic!("{}", message.as_str());
    }
}

/// A text put together at compile time; what is too long is cut.
struct Message {
    bytes: [u8; 400],
    len: usize,
}

impl Message {
    const fn new() -> Self {
        Self { bytes: [0; 400], len: 0 }
    }

    const fn text(mut self, text: &str) -> Self {
        let mut i = 0;
        while i < text.len() && self.len < self.bytes.len() {
            self.bytes[self.len] = text.as_bytes()[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    const fn number(self, number: usize) -> Self {
        let higher = if number >= 10 { self.number(number / 10) } else { self };
        let digit = [b'0' + (number % 10) as u8];
        match core::str::from_utf8(&digit) {
            Ok(digit) => higher.text(digit),
            Err(_) => higher,
        }
    }

    const fn as_str(&self) -> &str {
        let (used, _) = self.bytes.split_at(self.len);
        match core::str::from_utf8(used) {
            Ok(text) => text,
            Err(_) => "padding, or drop glue",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_texts_and_numbers() {
        let message = Message::new().number(0).text(" of ").number(1203);
        assert_eq!(message.as_str(), "0 of 1203");
    }

    #[test]
    #[should_panic(expected = "3 bytes of padding before the field `size`")]
    fn a_gap_is_named() {
        no_gap_before("size", 5, 8);
    }
}
