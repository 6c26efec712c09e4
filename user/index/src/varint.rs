//! Numbers in 7-bit groups, low group first; the high bit says that more follow (LEB128).

use twizzler_abi::Error;

/// Bytes that the longest number takes.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Hands the bytes of `value` to `put`.
pub(crate) fn encode(mut value: u64, mut put: impl FnMut(u8)) {
    while value >= 0x80 {
        put(value as u8 | 0x80);
        value >>= 7;
    }
    put(value as u8);
}

/// Takes a number off the front of `bytes`.
///
/// # Errors
/// [`Error::Damaged`] where the bytes end too early or the number doesn't fit 64 bits.
pub(crate) fn decode(bytes: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0;
    for i in 0..VARINT_BYTES_MAX {
        let (&byte, rest) = bytes.split_first().ok_or(Error::Damaged)?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        if i == VARINT_BYTES_MAX - 1 && group > 1 {
            return Err(Error::Damaged);
        }
        value |= group << (7 * i);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Error::Damaged)
}

/// The same for numbers that must fit 32 bits.
pub(crate) fn decode_u32(bytes: &mut &[u8]) -> Result<u32, Error> {
    u32::try_from(decode(bytes)?).map_err(|_| Error::Damaged)
}

/// Takes `len` bytes off the front.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Result<&'a [u8], Error> {
    let len = usize::try_from(len).map_err(|_| Error::Damaged)?;
    let (head, rest) = bytes.split_at_checked(len).ok_or(Error::Damaged)?;
    *bytes = rest;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            encode(value, |b| bytes.push(b));
            let mut rest = bytes.as_slice();
            prop_assert_eq!(decode(&mut rest), Ok(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_give_a_number_or_an_error(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while decode(&mut rest).is_ok() {}
        }
    }
}
