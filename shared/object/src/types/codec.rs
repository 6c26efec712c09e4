//! Type tables as bytes. Numbers are little-endian; a text is its length in two bytes and as many bytes of UTF-8, none of them of control characters.
//!
//! ```text
//! table   "TWZTYPES" version:u32=1 types:u32 kind type*
//! type    form:u8 text version:u64 fingerprint:u64 arguments:u64 size:u64 parts:u32 part*
//! form    0 opaque (no parts), 1 record (part: text offset:u64 kind), 2 choice (part: text number:u64),
//!         3 vector, 4 hash map, 5 ordered map (part: kind; then words:u32 word:u64*, which say where things are)
//! kind    0 plain:u8 | 1 flag | 2 array:u64 kind | 3 pointer kind | 4 span kind | 5 named:u64
//! ```

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use twizzler_abi::Error;

use super::table::{
    CollectionDescription, FieldDescription, Form, Kind, TYPES_MAX, TypeDescription, TypeTable,
};
use crate::stored::{Collected, Plain};

const MAGIC: &[u8; 8] = b"TWZTYPES";
const VERSION: u32 = 1;
/// Kinds within kinds.
const DEPTH_MAX: u32 = 32;
/// Fields or variants of one type.
const PARTS_MAX: u32 = 65536;

impl TypeTable {
    /// The table as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = MAGIC.to_vec();
        to.extend(VERSION.to_le_bytes());
        to.extend((self.types.len() as u32).to_le_bytes());
        put_kind(&mut to, &self.root);
        for found in self.types.values() {
            let (form, parts) = match &found.form {
                Form::Opaque => (0, 0),
                Form::Record(fields) => (1, fields.len()),
                Form::Choice(variants) => (2, variants.len()),
                Form::Collection(collection) => {
                    let number = Collected::ALL.iter().position(|known| *known == collection.form);
                    (3 + number.expect("all are listed") as u8, collection.parts.len())
                }
            };
            to.push(form);
            put_text(&mut to, &found.name);
            for word in [found.version, found.fingerprint, found.arguments, found.size] {
                to.extend(word.to_le_bytes());
            }
            to.extend((parts as u32).to_le_bytes());
            match &found.form {
                Form::Opaque => {}
                Form::Record(fields) => {
                    for field in fields {
                        put_text(&mut to, &field.name);
                        to.extend(field.offset.to_le_bytes());
                        put_kind(&mut to, &field.kind);
                    }
                }
                Form::Collection(collection) => {
                    collection.parts.iter().for_each(|part| put_kind(&mut to, part));
                    to.extend((collection.layout.len() as u32).to_le_bytes());
                    collection.layout.iter().for_each(|word| to.extend(word.to_le_bytes()));
                }
                Form::Choice(variants) => {
                    for (name, number) in variants {
                        put_text(&mut to, name);
                        to.extend(number.to_le_bytes());
                    }
                }
            }
        }
        to
    }

    /// The table of the type with that fingerprint, from bytes that may be anything.
    ///
    /// # Errors
    /// [`Error::Damaged`] for what is not the table of that type; [`Error::NotSupported`] for a later version's.
    pub fn decode(fingerprint: u64, bytes: &[u8]) -> Result<Self, Error> {
        let mut from = From(bytes);
        if from.take(8)? != MAGIC {
            return Err(Error::Damaged);
        }
        if from.u32()? != VERSION {
            return Err(Error::NotSupported);
        }
        let count = from.u32()? as usize;
        if count > TYPES_MAX {
            return Err(Error::Damaged);
        }
        let mut table = Self { root: from.kind(0)?, types: BTreeMap::new() };
        for _ in 0..count {
            let found = from.description()?;
            if table.types.insert(found.fingerprint, found).is_some() {
                return Err(Error::Damaged);
            }
        }
        if !from.0.is_empty() {
            return Err(Error::Damaged);
        }
        table.verify(fingerprint)?;
        Ok(table)
    }
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("identifiers and declared names are short");
    to.extend(len.to_le_bytes());
    to.extend(text.as_bytes());
}

fn put_kind(to: &mut Vec<u8>, kind: &Kind) {
    match kind {
        Kind::Plain(plain) => {
            let number = Plain::ALL.iter().position(|known| known == plain).expect("all are listed");
            to.extend([0, number as u8]);
        }
        Kind::Flag => to.push(1),
        Kind::Array(len, element) => {
            to.push(2);
            to.extend(len.to_le_bytes());
            put_kind(to, element);
        }
        Kind::Pointer(target) => {
            to.push(3);
            put_kind(to, target);
        }
        Kind::Span(target) => {
            to.push(4);
            put_kind(to, target);
        }
        Kind::Named(fingerprint) => {
            to.push(5);
            to.extend(fingerprint.to_le_bytes());
        }
    }
}

/// What is left to decode.
struct From<'a>(&'a [u8]);

impl<'a> From<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Error::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Error::Damaged)?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Error::Damaged)?))
    }

    fn text(&mut self) -> Result<String, Error> {
        let len = u16::from_le_bytes(self.take(2)?.try_into().map_err(|_| Error::Damaged)?);
        let text = core::str::from_utf8(self.take(usize::from(len))?).map_err(|_| Error::Damaged)?;
        // No name has one, and a terminal would obey it.
        if text.chars().any(char::is_control) { Err(Error::Damaged) } else { Ok(text.to_string()) }
    }

    fn kind(&mut self, depth: u32) -> Result<Kind, Error> {
        if depth > DEPTH_MAX {
            return Err(Error::Damaged);
        }
        Ok(match self.u8()? {
            0 => Kind::Plain(*Plain::ALL.get(usize::from(self.u8()?)).ok_or(Error::Damaged)?),
            1 => Kind::Flag,
            2 => Kind::Array(self.u64()?, Box::new(self.kind(depth + 1)?)),
            3 => Kind::Pointer(Box::new(self.kind(depth + 1)?)),
            4 => Kind::Span(Box::new(self.kind(depth + 1)?)),
            5 => Kind::Named(self.u64()?),
            _ => return Err(Error::Damaged),
        })
    }

    fn description(&mut self) -> Result<TypeDescription, Error> {
        let form = self.u8()?;
        let name = self.text()?;
        let (version, fingerprint) = (self.u64()?, self.u64()?);
        let (arguments, size) = (self.u64()?, self.u64()?);
        let parts = self.u32()?;
        if parts > PARTS_MAX {
            return Err(Error::Damaged);
        }
        let form = match form {
            0 if parts == 0 => Form::Opaque,
            1 => {
                let mut fields = Vec::new();
                for _ in 0..parts {
                    fields.push(FieldDescription {
                        name: self.text()?,
                        offset: self.u64()?,
                        kind: self.kind(0)?,
                    });
                }
                Form::Record(fields)
            }
            2 => {
                let mut variants = Vec::new();
                for _ in 0..parts {
                    variants.push((self.text()?, self.u64()?));
                }
                Form::Choice(variants)
            }
            number => {
                let number = usize::from(number.checked_sub(3).ok_or(Error::Damaged)?);
                let form = *Collected::ALL.get(number).ok_or(Error::Damaged)?;
                let parts = (0..parts).map(|_| self.kind(0)).collect::<Result<_, _>>()?;
                let words = self.u32()?;
                let layout = (0..words).map(|_| self.u64()).collect::<Result<_, _>>()?;
                Form::Collection(CollectionDescription { form, parts, layout })
            }
        };
        Ok(TypeDescription { name, version, fingerprint, arguments, size, form })
    }
}
