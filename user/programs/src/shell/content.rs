//! Commands about what objects hold.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use twizzler_abi::call::StatOp;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId, Rights, SizeClass};
use twizzler_names::{Entry, NameError};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::{call, file};

use super::failure::{Failure, Outcome};
use super::output::Output;
use super::parse::Redirect;
use super::{Shell, kinds};
use crate::text::dump_line;

/// Bytes that are copied at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Reads a file's bytes in pieces.
fn for_each_chunk(id: ObjId, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
    let mapping = Mapping::new(id, Rights::READ)?;
    let len = mapping.len_bytes();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < len {
        let part = &mut chunk[..((len - at) as usize).min(CHUNK_BYTES)];
        mapping.read(BASE_OFFSET + at, part);
        each(part);
        at += part.len() as u64;
    }
    Ok(())
}

/// Refuses objects with a declared type: their bytes mean nothing outside them.
fn check_plain(id: ObjId, name: &str) -> Result<(), Failure> {
    let stat = call::stat(StatOp::Object, id).map_err(Failure::of(name))?;
    if stat.fingerprint == 0 { Ok(()) } else { Err(Failure::new(kinds::not_a_file(name, stat.fingerprint))) }
}

/// `cat OBJECT...`.
pub(super) fn cat(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    if arguments.is_empty() {
        return Err(Failure::Usage);
    }
    for name in arguments {
        let id = shell.object(name)?;
        check_plain(id, name)?;
        for_each_chunk(id, |chunk| output.bytes(chunk)).map_err(Failure::of(name))?;
    }
    Ok(0)
}

/// `cp FROM NAME`.
pub(super) fn cp(shell: &mut Shell<'_>, arguments: &[&str], _: &mut Output) -> Outcome {
    let &[from, to] = arguments else { return Err(Failure::Usage) };
    let id = shell.object(from)?;
    check_plain(id, from)?;
    let bytes = file::read(id).map_err(Failure::of(from))?;
    shell.replace(to, &bytes)?;
    Ok(0)
}

/// `echo [-n] [WORD...]`.
pub(super) fn echo(_: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    let (words, end) = match arguments {
        ["-n", words @ ..] => (words, ""),
        words => (words, "\n"),
    };
    output.bytes((words.join(" ") + end).as_bytes());
    Ok(0)
}

/// `put-text NAME TEXT`.
pub(super) fn put_text(shell: &mut Shell<'_>, arguments: &[&str], _: &mut Output) -> Outcome {
    let [name, words @ ..] = arguments else { return Err(Failure::Usage) };
    if words.is_empty() {
        return Err(Failure::Usage);
    }
    shell.replace(name, (words.join(" ") + "\n").as_bytes())?;
    Ok(0)
}

/// Puts a command's output where it was to go.
pub(super) fn keep_output(shell: &Shell<'_>, redirect: &Redirect, output: Output) -> Result<(), Failure> {
    let Output::Kept(bytes) = output else { return Ok(()) };
    let name = &redirect.name;
    let directory = shell.directory()?;
    match directory.lookup(name) {
        Ok(Entry::Object(id)) if redirect.append => {
            check_plain(id, name)?;
            directory.append(id, &bytes).map_err(Failure::of(name))
        }
        _ => shell.replace(name, &bytes),
    }
}

impl Shell<'_> {
    /// Makes a file of these bytes under the name, in place of the file that had it before.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let directory = self.directory()?;
        let old = match directory.lookup(name) {
            Ok(Entry::Directory) => return Err(Failure::of(name)(NameError::IsADirectory)),
            Ok(Entry::Object(old)) => {
                check_plain(old, name)?;
                Some(self.last_name(old))
            }
            Err(_) => None,
        };
        directory.replace(name, old, bytes).map_err(Failure::of(name))
    }
}

/// A number, decimal or after `0x` hexadecimal.
fn number(text: &str) -> Result<u64, Failure> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| Failure::Usage)
}

/// `dump OBJECT [FROM [BYTES]]`: offsets count from the base.
pub(super) fn dump(shell: &mut Shell<'_>, arguments: &[&str], output: &mut Output) -> Outcome {
    let (name, from, most) = match *arguments {
        [name] => (name, 0, None),
        [name, from] => (name, number(from)?, None),
        [name, from, most] => (name, number(from)?, Some(number(most)?)),
        _ => return Err(Failure::Usage),
    };
    let id = shell.object(name)?;
    let mapping = Mapping::new(id, Rights::READ).map_err(Failure::of(name))?;
    let all = SizeClass::Small.range_bytes() - BASE_OFFSET;
    // Without a number of bytes: what is in use, or the first lines.
    let most = most.unwrap_or_else(|| mapping.len_bytes().saturating_sub(from).min(256));
    let end = from.saturating_add(most).min(all);
    let mut at = from;
    while at < end {
        let mut bytes = [0; 16];
        let part = &mut bytes[..(end - at).min(16) as usize];
        mapping.read(BASE_OFFSET + at, part);
        output.line(dump_line(at, part));
        at += 16;
    }
    let rest = mapping.len_bytes().saturating_sub(end);
    if arguments.len() < 3 && rest > 0 {
        output.line(String::from("... ") + &format!("{rest} bytes more"));
    }
    Ok(0)
}
