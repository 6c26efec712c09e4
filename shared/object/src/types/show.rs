//! Dumps as text.

use core::fmt;

use super::dump::{Dump, Place, Shown, Target};

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in &self.places {
            writeln!(f, "{place}")?;
        }
        if self.truncated { writeln!(f, "... and more") } else { Ok(()) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} {} ", self.offset, self.type_name)?;
        show(f, &self.value, 0)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "null"),
            Self::Local(offset) => write!(f, "-> {offset:#x}"),
            Self::Foreign(Some(object), offset) => write!(f, "-> {object}:{offset:#x}"),
            Self::Foreign(None, offset) => write!(f, "-> another object:{offset:#x}"),
            Self::Damaged(bits) => write!(f, "damaged pointer {bits:#x}"),
        }
    }
}

fn show(f: &mut fmt::Formatter<'_>, value: &Shown, depth: usize) -> fmt::Result {
    let more =
        |f: &mut fmt::Formatter<'_>, more: u64| if more > 0 { write!(f, " and {more} more") } else { Ok(()) };
    match value {
        Shown::Unsigned(number) => write!(f, "{number}"),
        Shown::Signed(number) => write!(f, "{number}"),
        Shown::Float(number) => write!(f, "{number}"),
        Shown::Flag(set) => write!(f, "{set}"),
        Shown::Id(id) => write!(f, "{id}"),
        Shown::Bytes(bytes, rest) => {
            // Zeros at the end say nothing, in a text least of all.
            let end = if *rest == 0 {
                bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
            } else {
                bytes.len()
            };
            let used = &bytes[..end];
            if used.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
                write!(f, "\"{}\"", used.escape_ascii())?;
            } else {
                for byte in used {
                    write!(f, "{byte:02x}")?;
                }
            }
            more(f, *rest)
        }
        Shown::List(items, rest) => {
            write!(f, "[")?;
            for (index, item) in items.iter().enumerate() {
                write!(f, "{}", if index > 0 { ", " } else { "" })?;
                show(f, item, depth + 1)?;
            }
            write!(f, "]")?;
            more(f, *rest)
        }
        Shown::Entries(entries, rest) => {
            writeln!(f, "{{")?;
            for (key, value) in entries {
                write!(f, "{:indent$}", "", indent = 4 * (depth + 1))?;
                show(f, key, depth + 1)?;
                write!(f, " => ")?;
                show(f, value, depth + 1)?;
                writeln!(f)?;
            }
            write!(f, "{:indent$}}}", "", indent = 4 * depth)?;
            more(f, *rest)
        }
        Shown::Record(fields) => {
            writeln!(f, "{{")?;
            for (name, field) in fields {
                write!(f, "{:indent$}{name}: ", "", indent = 4 * (depth + 1))?;
                show(f, field, depth + 1)?;
                writeln!(f)?;
            }
            write!(f, "{:indent$}}}", "", indent = 4 * depth)
        }
        Shown::Variant(Some(name), number) => write!(f, "{name} ({number})"),
        Shown::Variant(None, number) => write!(f, "damaged: {number}"),
        Shown::Pointer(target) => write!(f, "{target}"),
        Shown::Span(target, len) => write!(f, "{len} {target}"),
        Shown::Omitted => write!(f, "..."),
    }
}
