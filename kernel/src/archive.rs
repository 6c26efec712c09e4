//! The boot archive: files by name in a ustar archive.
//!
//! Source: POSIX.1-2017, pax, "ustar Interchange Format". Only what the host's tool writes: regular files
//! with names of at most 100 bytes. Anything else is skipped; nonsense ends the walk.

use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET, Header};
use twizzler_abi::system::ARCHIVE_ID;
use twizzler_abi::{Error, Rights};
use zerocopy::{FromZeros, IntoBytes};

use crate::object::create;

const BLOCK: usize = 512;
const NAME: core::ops::Range<usize> = 0..100;
const SIZE: core::ops::Range<usize> = 124..136;

/// The content of the file with this name.
pub(crate) fn find<'a>(archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = archive;
    loop {
        let (header, after) = rest.split_at_checked(BLOCK)?;
        let bytes = octal(&header[SIZE])?;
        let content = after.get(..bytes)?;
        if field(&header[NAME]) == name.as_bytes() {
            return Some(content);
        }
        rest = after.get(bytes.checked_next_multiple_of(BLOCK)?..)?;
    }
}

/// A field up to its first zero.
fn field(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
}

fn octal(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.trim_ascii().split(|&byte| byte == 0 || byte == b' ').next()?;
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0usize, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(usize::from(digit - b'0')),
        _ => None,
    })
}

/// Makes the object that shows the archive to programs.
///
/// # Errors
/// No memory.
pub(crate) fn publish(archive: &[u8]) -> Result<(), Error> {
    let object = create::published(ARCHIVE_ID, Rights::READ)?;
    object.pin()?;
    let header = Header { len_bytes: archive.len() as u64, ..Header::new_zeroed() };
    object.write(HEADER_OFFSET, header.as_bytes())?;
    object.write(BASE_OFFSET, archive)
}
