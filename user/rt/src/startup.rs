//! The startup object: what a program is given by whoever starts it, and what it leaves to be cleaned up.
//!
//! | offset from the base | what |
//! |---|---|
//! | 0 | [`Startup`] |
//! | 0x1000 | IDs of volatile objects that the program has made, [`OWNED_MAX`] of them at most |
//! | 0x11000 | arguments, then `NAME=VALUE` variables: each a length of 8 bytes and that many bytes, padded to 8 |
//!
//! The program may write all of it; who started it believes nothing of what it finds there afterwards.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use twizzler_abi::address::{SLOT_BYTES, band};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};

use crate::mapping::Mapping;
use crate::memory;

/// First word: "TWZSTART".
pub const MAGIC: u64 = u64::from_le_bytes(*b"TWZSTART");
/// Most objects that are listed for cleaning up; a program that makes more loses track of the rest.
pub const OWNED_MAX: u64 = 4096;
/// Most bytes of arguments and variables.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// The fixed part, at the base.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Startup {
    /// [`MAGIC`].
    pub magic: u64,
    /// Arguments, counting the program's name.
    pub arguments: u64,
    /// Variables.
    pub variables: u64,
    /// Bytes of both.
    pub text_bytes: u64,
    /// IDs listed so far.
    pub owned: u64,
}

const OWNED_OFFSET: u64 = BASE_OFFSET + 0x1000;
const TEXT_OFFSET: u64 = OWNED_OFFSET + OWNED_MAX * 16;

/// Bytes of arguments and variables as they lie in the object.
fn encode(texts: &[&[&str]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts.iter().copied().flatten() {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// The first `count` texts, and what follows them. What makes no sense ends the list.
fn decode(mut bytes: &[u8], count: u64) -> (Vec<String>, &[u8]) {
    let mut texts = Vec::new();
    for _ in 0..count {
        let Some((len, rest)) = bytes.split_first_chunk() else { break };
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let Some(text) = rest.get(..len) else { break };
        texts.push(String::from_utf8_lossy(text).into_owned());
        bytes = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    (texts, bytes)
}

/// Fills the startup object of a program that is about to be started.
///
/// # Errors
/// [`Error::TooLong`] for more text than fits.
pub(crate) fn fill(object: &Mapping, arguments: &[&str], variables: &[&str]) -> Result<(), Error> {
    let text = encode(&[arguments, variables]);
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::TooLong);
    }
    object.write(TEXT_OFFSET, &text);
    let words = [MAGIC, arguments.len() as u64, variables.len() as u64, text.len() as u64, 0];
    for (word, at) in words.into_iter().zip((BASE_OFFSET..).step_by(8)) {
        object.word(at).store(word, Ordering::Relaxed);
    }
    Ok(())
}

/// The objects that an ended program has listed.
pub(crate) fn owned(object: &Mapping) -> Vec<ObjId> {
    let count = object.word(BASE_OFFSET + 32).load(Ordering::Relaxed).min(OWNED_MAX);
    let word = |at| object.word(at).load(Ordering::Relaxed);
    (0..count)
        .map(|index| OWNED_OFFSET + index * 16)
        .map(|at| ObjId { hi: word(at), lo: word(at + 8) })
        .filter(|id| !id.is_none())
        .collect()
}

/// A word of this program's own startup object.
fn own_word(offset: u64) -> &'static AtomicU64 {
    // SAFETY: mapped before `main` until the program ends; offsets are aligned and in the slot.
    unsafe { memory::word(band::STARTUP.base() + offset) }
}

/// Lists a volatile object of this program, to be deleted with it.
pub fn own(id: ObjId) {
    let index = own_word(BASE_OFFSET + 32).fetch_add(1, Ordering::Relaxed);
    if index < OWNED_MAX {
        let at = OWNED_OFFSET + index * 16;
        own_word(at + 8).store(id.lo, Ordering::Relaxed);
        own_word(at).store(id.hi, Ordering::Relaxed);
    } else {
        own_word(BASE_OFFSET + 32).store(OWNED_MAX, Ordering::Relaxed);
    }
}

/// Takes an object off the list: it has been deleted, or is to outlive this program.
pub fn disown(id: ObjId) {
    let count = own_word(BASE_OFFSET + 32).load(Ordering::Relaxed).min(OWNED_MAX);
    for at in (0..count).map(|index| OWNED_OFFSET + index * 16) {
        if own_word(at).load(Ordering::Relaxed) == id.hi && own_word(at + 8).load(Ordering::Relaxed) == id.lo
        {
            own_word(at).store(0, Ordering::Relaxed);
            own_word(at + 8).store(0, Ordering::Relaxed);
            return;
        }
    }
}

/// Arguments and variables of this program.
pub(crate) fn texts() -> (Vec<String>, Vec<String>) {
    let word = |index: u64| own_word(BASE_OFFSET + index * 8).load(Ordering::Relaxed);
    let len = (word(3) as usize).min(TEXT_BYTES_MAX);
    if word(0) != MAGIC || len as u64 > SLOT_BYTES - TEXT_OFFSET {
        return (Vec::new(), Vec::new());
    }
    let mut bytes = alloc::vec![0; len];
    // SAFETY: within the startup object, which is mapped as long as the program runs.
    unsafe { memory::copy_in(band::STARTUP.base() + TEXT_OFFSET, &mut bytes) };
    let (arguments, rest) = decode(&bytes, word(1));
    (arguments, decode(rest, word(2)).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        let bytes = encode(&[&["shell", "", "äöü 12345"], &["A=b"]]);
        let (arguments, rest) = decode(&bytes, 3);
        assert_eq!(arguments, ["shell", "", "äöü 12345"]);
        assert_eq!(decode(rest, 1).0, ["A=b"]);
    }

    #[test]
    fn hostile_texts_end_the_list() {
        assert!(decode(&u64::MAX.to_le_bytes(), 5).0.is_empty());
        assert!(decode(&[1, 0, 0], u64::MAX).0.is_empty());
        let bytes = encode(&[&["a"]]);
        assert_eq!(decode(&bytes[..9], u64::MAX).0, ["a"]);
    }
}
