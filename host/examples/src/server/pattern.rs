//! Patterns of keys, as `KEYS` and `SCAN` take them: `*`, `?`, `[abc]`, `[^a-z]`, and `\` before a character that is meant itself.

/// Whether the text is of the pattern.
#[must_use]
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut in_text) = (0, 0);
    // Where the last star stands, and how much of the text it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, in_text));
            at += 1;
            continue;
        }
        match one(&pattern[at..], text[in_text]) {
            Some(used) => {
                at += used;
                in_text += 1;
            }
            None => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (at, in_text) = (place + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// Bytes of the pattern that stand for the one byte; none where they don't.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [b'[', ref rest @ ..] => class(rest, byte),
        [plain, ..] => (plain == byte).then_some(1),
    }
}

/// The same for what follows a `[`. One that is not closed ends with the pattern.
fn class(rest: &[u8], byte: u8) -> Option<usize> {
    let (negated, mut at) = if rest.first() == Some(&b'^') { (true, 1) } else { (false, 0) };
    let mut found = false;
    while let Some(&first) = rest.get(at) {
        match (first, rest.get(at + 1), rest.get(at + 2)) {
            (b']', ..) => break,
            (b'\\', Some(&escaped), _) => {
                found |= escaped == byte;
                at += 2;
            }
            (_, Some(b'-'), Some(&last)) if last != b']' => {
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            _ => {
                found |= first == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some((at + 2).min(rest.len() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("key:[0-9][0-9]", "key:42", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            ("[", "x", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_survived(pattern: Vec<u8>, text: Vec<u8>) {
            let _ = matches(&pattern, &text);
        }
    }
}
