//! Strings.

use alloc::string::String;
use alloc::vec::Vec;

use twizzler_abi::Error;

use super::raw::steady;
use super::vector::{Vector, VectorRoot};
use crate::Stored;
use crate::backend::Backend;
use crate::pointer::Ptr;
use crate::reader::Reader;
use crate::tx::Tx;

/// What a text is in an object: put one into a record of your own. All zero is an empty text.
#[derive(Stored)]
#[stored(name = "twizzler.text", version = 1)]
#[repr(C)]
pub struct TextRoot {
    bytes: VectorRoot<u8>,
}

/// A text that grows, in UTF-8. For bytes, use a [`Vector`] of `u8`; for those that never change, [`crate::InvBytes`].
#[derive(Clone, Copy, Debug)]
pub struct Text<'s> {
    bytes: Vector<'s, u8>,
}

impl<'s> Text<'s> {
    /// The text of that root.
    #[must_use]
    pub fn new(root: Ptr<'s, TextRoot>) -> Self {
        Self { bytes: Vector::new(root.at(TextRoot::bytes)) }
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self, reader: &impl Reader<'s>) -> u64 {
        self.bytes.len(reader)
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self, reader: &impl Reader<'s>) -> bool {
        self.bytes.is_empty(reader)
    }

    /// A copy of all of it.
    ///
    /// # Errors
    /// [`Error::Damaged`], also for what is not UTF-8.
    pub fn get(&self, reader: &impl Reader<'s>) -> Result<String, Error> {
        let bytes: Vec<u8> = steady(reader, self.bytes.area(), || self.bytes.to_vec(reader))?;
        String::from_utf8(bytes).map_err(|_| Error::Damaged)
    }

    /// Adds to the end.
    ///
    /// # Errors
    /// As [`Vector::push_zeroed`].
    pub fn push_str<B: Backend>(&self, tx: &mut Tx<'s, B>, text: &str) -> Result<(), Error> {
        self.bytes.extend_from_slice(tx, text.as_bytes())
    }

    /// Adds a character at the end.
    ///
    /// # Errors
    /// As [`Vector::push_zeroed`].
    pub fn push<B: Backend>(&self, tx: &mut Tx<'s, B>, character: char) -> Result<(), Error> {
        self.push_str(tx, character.encode_utf8(&mut [0; 4]))
    }

    /// Takes the last character.
    ///
    /// # Errors
    /// As [`Text::get`]; what the transaction says.
    pub fn pop<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<Option<char>, Error> {
        let Some(last) = self.get(tx)?.chars().next_back() else { return Ok(None) };
        self.bytes.truncate(tx, self.len(tx) - last.len_utf8() as u64)?;
        Ok(Some(last))
    }

    /// Forgets what is beyond so many bytes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] in the middle of a character; as [`Text::get`]; what the transaction says.
    pub fn truncate<B: Backend>(&self, tx: &mut Tx<'s, B>, len_bytes: u64) -> Result<(), Error> {
        let text = self.get(tx)?;
        if len_bytes >= text.len() as u64 {
            return Ok(());
        }
        if !text.is_char_boundary(len_bytes as usize) {
            return Err(Error::InvalidArgument);
        }
        self.bytes.truncate(tx, len_bytes)
    }

    /// Makes it this text.
    ///
    /// # Errors
    /// As [`Vector::push_zeroed`].
    pub fn set<B: Backend>(&self, tx: &mut Tx<'s, B>, text: &str) -> Result<(), Error> {
        self.bytes.replace_from(tx, 0, text.as_bytes())
    }

    /// Makes it empty, and gives the memory back.
    ///
    /// # Errors
    /// As [`Vector::clear`].
    pub fn clear<B: Backend>(&self, tx: &mut Tx<'s, B>) -> Result<(), Error> {
        self.bytes.clear(tx)
    }
}
