//! Reading an object by its type table, as a tree of values.
//!
//! Nothing is believed: offsets are checked against the object's range, and how deep, how wide and how far the reading goes is
//! bounded, whatever the object says. Pointers within the object are followed, each place once; those to other objects are shown.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use twizzler_abi::address::SLOT_BYTES;
use twizzler_abi::object::{BASE_OFFSET, FOT_INLINE_ENTRIES, FOT_OFFSET};
use twizzler_abi::pointer::{FotEntry, FotKind, PointerBits};
use twizzler_abi::{Error, ObjId};

use super::table::{CollectionDescription, Form, Kind, TypeTable};
use crate::collections::entries::{self, Entries, Part};
use crate::memory;
use crate::stored::{Collected, Plain};

/// Types within types.
const DEPTH_MAX: u32 = 32;
/// Elements of an array that are shown.
const ELEMENTS_MAX: u64 = 64;
/// Bytes of an array of bytes that are shown.
const BYTES_MAX: u64 = 1024;
/// Values that one place may have, so that arrays of arrays come to an end.
const VALUES_MAX: usize = 4096;

/// One object's bytes.
pub trait Source {
    /// Copies bytes out, from an offset that counts from the object's start.
    ///
    /// # Errors
    /// What keeps it from reading.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error>;

    /// How far the object reaches.
    fn range_bytes(&self) -> u64 {
        SLOT_BYTES
    }
}

impl<F: Fn(u64, &mut [u8]) -> Result<(), Error>> Source for F {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self(offset, buffer)
    }
}

/// What was read.
#[derive(Clone, PartialEq, Debug)]
pub struct Dump {
    /// The base, then what pointers lead to, nearest first.
    pub places: Vec<Place>,
    /// True where there is more than was asked for.
    pub truncated: bool,
}

/// A place in the object, and what is there.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    /// Where.
    pub offset: u64,
    /// What its type is called.
    pub type_name: String,
    /// What is there.
    pub value: Shown,
}

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub enum Shown {
    /// An unsigned number.
    Unsigned(u128),
    /// A signed number.
    Signed(i128),
    /// A fraction.
    Float(f64),
    /// A truth value.
    Flag(bool),
    /// An object's ID.
    Id(ObjId),
    /// Bytes, and how many more there are.
    Bytes(Vec<u8>, u64),
    /// Values, and how many more there are.
    List(Vec<Shown>, u64),
    /// Keys and values, and how many more there are.
    Entries(Vec<(Shown, Shown)>, u64),
    /// Fields by name.
    Record(Vec<(String, Shown)>),
    /// A variant by name, if the number is that of one.
    Variant(Option<String>, u64),
    /// A pointer to one value.
    Pointer(Target),
    /// A pointer to so many values.
    Span(Target, u64),
    /// Types within types too deep, or values too many, to be shown.
    Omitted,
}

/// Where a pointer leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Nowhere.
    Null,
    /// To an offset of the same object.
    Local(u64),
    /// To an offset of another object; None: the table of objects is larger than what lies in this one.
    Foreign(Option<ObjId>, u64),
    /// It can't be a pointer's.
    Damaged(u64),
}

/// Reads an object whose base is of the table's type: at most so many places.
///
/// # Errors
/// Those of the source; [`Error::Damaged`] where the object is too small for its base.
pub fn dump(source: &impl Source, table: &TypeTable, places_max: usize) -> Result<Dump, Error> {
    let mut reading = Reading { source, table, waiting: VecDeque::new(), seen: BTreeSet::new(), values: 0 };
    reading.visit(BASE_OFFSET, table.root().clone());
    let mut places = Vec::new();
    while places.len() < places_max {
        let Some((offset, kind)) = reading.waiting.pop_front() else { break };
        reading.values = 0;
        let value = reading.value(offset, &kind, 0)?;
        places.push(Place { offset, type_name: table.name_of(&kind), value });
    }
    let truncated = !reading.waiting.is_empty();
    match places.is_empty() && !truncated {
        true => Err(Error::Damaged),
        false => Ok(Dump { places, truncated }),
    }
}

struct Reading<'a, S> {
    source: &'a S,
    table: &'a TypeTable,
    waiting: VecDeque<(u64, Kind)>,
    seen: BTreeSet<(u64, Kind)>,
    /// Values of the present place.
    values: usize,
}

impl<S: Source> Reading<'_, S> {
    /// Remembers a place to be read, if it lies within the object's range.
    fn visit(&mut self, offset: u64, kind: Kind) -> bool {
        let fits = self.table.size_of(&kind).is_some_and(|size| self.fits(offset, size));
        if fits && self.seen.insert((offset, kind.clone())) {
            self.waiting.push_back((offset, kind));
        }
        fits
    }

    /// Whether so many bytes at an offset lie within the object, behind its header.
    fn fits(&self, offset: u64, len: u64) -> bool {
        let end = offset.checked_add(len);
        offset >= BASE_OFFSET && end.is_some_and(|end| end <= self.source.range_bytes())
    }

    fn bytes<const N: usize>(&self, offset: u64) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.source.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn value(&mut self, offset: u64, kind: &Kind, depth: u32) -> Result<Shown, Error> {
        self.values += 1;
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return Ok(Shown::Omitted);
        }
        Ok(match kind {
            Kind::Plain(plain) => self.plain(offset, *plain)?,
            Kind::Flag => Shown::Flag(self.bytes::<1>(offset)?[0] != 0),
            Kind::Array(len, element) => self.array(offset, *len, element, depth)?,
            Kind::Pointer(target) => {
                let to = self.target(offset, target)?;
                Shown::Pointer(to)
            }
            Kind::Span(target) => {
                let len = u64::from_le_bytes(self.bytes(offset + 8)?);
                let whole = Kind::Array(len, target.clone());
                Shown::Span(if len == 0 { Target::Null } else { self.target(offset, &whole)? }, len)
            }
            Kind::Named(fingerprint) => self.named(offset, *fingerprint, depth)?,
        })
    }

    fn plain(&self, offset: u64, plain: Plain) -> Result<Shown, Error> {
        let len = plain.size() as usize;
        let mut bytes = [0; 16];
        self.source.read(offset, &mut bytes[..len])?;
        let unsigned = u128::from_le_bytes(bytes);
        let spare = 128 - 8 * len as u32;
        Ok(match plain {
            Plain::U8 | Plain::U16 | Plain::U32 | Plain::U64 | Plain::U128 => Shown::Unsigned(unsigned),
            Plain::I8 | Plain::I16 | Plain::I32 | Plain::I64 | Plain::I128 => {
                Shown::Signed((unsigned << spare).cast_signed() >> spare)
            }
            Plain::F32 => Shown::Float(f64::from(f32::from_bits(unsigned as u32))),
            Plain::F64 => Shown::Float(f64::from_bits(unsigned as u64)),
            Plain::ObjId => Shown::Id(self.id(offset)?),
        })
    }

    /// An ID lies as its two words.
    fn id(&self, offset: u64) -> Result<ObjId, Error> {
        let mut id = ObjId::NONE;
        self.source.read(offset, memory::bytes_of_mut(&mut id))?;
        Ok(id)
    }

    fn raw(&self, offset: u64, len: u64) -> Result<Shown, Error> {
        let shown = len.min(BYTES_MAX);
        let mut bytes = alloc::vec![0; shown as usize];
        self.source.read(offset, &mut bytes)?;
        Ok(Shown::Bytes(bytes, len - shown))
    }

    fn collection(&mut self, at: u64, of: &CollectionDescription, depth: u32) -> Result<Shown, Error> {
        let sizes = of.parts.iter().map(|part| self.table.size_of(part)).collect::<Option<Vec<_>>>();
        let sizes = sizes.ok_or(Error::Damaged)?;
        let is_text = of.form == Collected::Vector && of.parts == [Kind::Plain(Plain::U8)];
        let max = if is_text { BYTES_MAX } else { ELEMENTS_MAX } as usize;
        let Entries { some, len } = entries::read(self.source, (of.form, at), &sizes, &of.layout, max)?;
        let more = len.saturating_sub(some.len() as u64);
        if is_text {
            let place = |(_, part)| if let Part::At(place) = part { Ok(place) } else { Err(Error::Damaged) };
            let places = some.into_iter().map(place).collect::<Result<Vec<u64>, _>>()?;
            let mut bytes = Vec::new();
            for run in places.chunk_by(|place, next| place.checked_add(1) == Some(*next)) {
                if !self.fits(run[0], run.len() as u64) {
                    return Err(Error::Damaged);
                }
                let from = bytes.len();
                bytes.resize(from + run.len(), 0);
                self.source.read(run[0], &mut bytes[from..])?;
            }
            return Ok(Shown::Bytes(bytes, more));
        }
        let (mut items, mut pairs) = (Vec::new(), Vec::new());
        for (key, value) in some {
            let key = key.map(|key| self.part(key, of.parts.first(), depth)).transpose()?;
            let value = self.part(value, of.parts.last(), depth)?;
            match key {
                Some(key) => pairs.push((key, value)),
                None => items.push(value),
            }
        }
        let is_list = of.form == Collected::Vector;
        Ok(if is_list { Shown::List(items, more) } else { Shown::Entries(pairs, more) })
    }

    fn part(&mut self, part: Part, kind: Option<&Kind>, depth: u32) -> Result<Shown, Error> {
        match part {
            Part::At(place) => {
                let kind = kind.ok_or(Error::Damaged)?;
                let size = self.table.size_of(kind).ok_or(Error::Damaged)?;
                if self.fits(place, size) { self.value(place, kind, depth + 1) } else { Err(Error::Damaged) }
            }
            Part::BytesAt(place, len) if self.fits(place, len) => self.raw(place, len),
            Part::BytesAt(..) => Err(Error::Damaged),
            Part::Bytes(mut bytes) => {
                let more = (bytes.len() as u64).saturating_sub(BYTES_MAX);
                bytes.truncate(BYTES_MAX as usize);
                Ok(Shown::Bytes(bytes, more))
            }
        }
    }

    fn array(&mut self, offset: u64, len: u64, element: &Kind, depth: u32) -> Result<Shown, Error> {
        if *element == Kind::Plain(Plain::U8) {
            return self.raw(offset, len);
        }
        let size = self.table.size_of(element).ok_or(Error::Damaged)?;
        let shown = len.min(ELEMENTS_MAX);
        let mut items = Vec::new();
        for index in 0..shown {
            items.push(self.value(offset + index * size, element, depth + 1)?);
        }
        Ok(Shown::List(items, len - shown))
    }

    fn named(&mut self, offset: u64, fingerprint: u64, depth: u32) -> Result<Shown, Error> {
        let table = self.table;
        let found = table.get(fingerprint).ok_or(Error::Damaged)?;
        Ok(match &found.form {
            Form::Opaque => self.raw(offset, found.size)?,
            // What makes no sense as a collection shows as what it is.
            Form::Collection(collection) => match self.collection(offset, collection, depth) {
                Err(Error::Damaged | Error::OutOfRange) => self.raw(offset, found.size)?,
                shown => shown?,
            },
            Form::Record(fields) => {
                let mut values = Vec::new();
                for field in fields {
                    values.push((
                        field.name.clone(),
                        self.value(offset + field.offset, &field.kind, depth + 1)?,
                    ));
                }
                Shown::Record(values)
            }
            Form::Choice(variants) => {
                let mut bytes = [0; 8];
                self.source.read(offset, &mut bytes[..found.size as usize])?;
                let number = u64::from_le_bytes(bytes);
                let name = variants.iter().find(|(_, known)| *known == number).map(|(name, _)| name.clone());
                Shown::Variant(name, number)
            }
        })
    }

    /// Where the pointer at `offset` leads; remembers the place if it is in this object.
    fn target(&mut self, offset: u64, kind: &Kind) -> Result<Target, Error> {
        let bits = PointerBits(u64::from_le_bytes(self.bytes(offset)?));
        if bits.is_null() {
            return Ok(Target::Null);
        }
        if !bits.is_well_formed() {
            return Ok(Target::Damaged(bits.0));
        }
        let (index, to) = (bits.index(), bits.offset());
        if index == 0 {
            let fits = self.visit(to, kind.clone());
            return Ok(if fits { Target::Local(to) } else { Target::Damaged(bits.0) });
        }
        if index >= FOT_INLINE_ENTRIES as u64 {
            return Ok(Target::Foreign(None, to));
        }
        let mut entry = FotEntry::default();
        self.source
            .read(FOT_OFFSET + index * size_of::<FotEntry>() as u64, memory::bytes_of_mut(&mut entry))?;
        Ok(match entry.decode() {
            Ok((FotKind::Id, _)) => Target::Foreign(Some(entry.target), to),
            Ok((FotKind::Name, _)) => Target::Foreign(None, to),
            _ => Target::Damaged(bits.0),
        })
    }
}
