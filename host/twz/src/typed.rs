//! An object's values by the description of its type, where the store has that: see `twizzler_object::types`.

use serde::Serialize;
use serde_json::{Map, Value, json};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_object::types::{Dump, Shown, Source, Target, TypeTable, dump, held_types, type_object};

use crate::medium::Medium;
use crate::object::{class_of, header};

/// Bytes of a description at most.
const DESCRIPTION_BYTES_MAX: u64 = 16 << 20;

/// Reads an object whose base has this fingerprint. None: the store does not describe the type.
///
/// # Errors
/// The description or the object is damaged.
pub fn read<M: Medium>(
    medium: &M,
    id: ObjId,
    fingerprint: u64,
    places_max: usize,
) -> Result<Option<Dump>, Error> {
    let Some(table) = description(medium, fingerprint)? else { return Ok(None) };
    let object = Object { medium, id, range_bytes: class_of(medium, id)?.range_bytes() };
    dump(&object, &table, places_max).map(Some)
}

/// The description of a type. None: the store has none.
///
/// # Errors
/// The description is damaged.
fn description<M: Medium>(medium: &M, fingerprint: u64) -> Result<Option<TypeTable>, Error> {
    let described = type_object(fingerprint);
    let len = match header(medium, described) {
        Err(Error::NoSuchObject) => return Ok(None),
        header => header?.len_bytes,
    };
    if len > DESCRIPTION_BYTES_MAX {
        return Err(Error::Damaged);
    }
    let mut bytes = vec![0; len as usize];
    medium.read_raw(described, BASE_OFFSET, &mut bytes)?;
    TypeTable::decode(fingerprint, &bytes).map(Some)
}

/// An entry of an object's type list.
#[derive(Clone, Debug, Serialize)]
pub struct HeldHere {
    /// The type's fingerprint.
    pub fingerprint: String,
    /// Its declared name, where a description tells it.
    pub name: Option<String>,
    /// Its declared version; likewise.
    pub version: Option<u64>,
}

/// The type list of an object whose base has this fingerprint.
///
/// # Errors
/// The object can't be read.
pub fn held<M: Medium>(medium: &M, id: ObjId, fingerprint: u64) -> Result<Vec<HeldHere>, Error> {
    let base = description(medium, fingerprint).ok().flatten();
    let held = held_types(|offset, buffer| medium.read_raw(id, offset, buffer))?;
    let named = held.iter().map(|held| {
        let of_base = base.as_ref().and_then(|table| table.get(held.fingerprint)).cloned();
        let found = of_base.or_else(|| {
            let own = description(medium, held.fingerprint).ok().flatten()?;
            own.get(held.fingerprint).cloned()
        });
        HeldHere {
            fingerprint: format!("{:016x}", held.fingerprint),
            version: found.as_ref().map(|found| found.version),
            name: found.map(|found| found.name),
        }
    });
    Ok(named.collect())
}

/// An object's bytes.
struct Object<'a, M> {
    medium: &'a M,
    id: ObjId,
    range_bytes: u64,
}

impl<M: Medium> Source for Object<'_, M> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.medium.read_raw(self.id, offset, buffer)
    }

    fn range_bytes(&self) -> u64 {
        self.range_bytes
    }
}

/// The same as JSON: places with their types and values; numbers over 64 bits, IDs and bytes as text.
#[must_use]
pub fn as_json(dump: &Dump) -> Value {
    let places = dump.places.iter();
    let places = places.map(
        |place| json!({ "offset": place.offset, "type": place.type_name, "value": value(&place.value) }),
    );
    json!({ "places": places.collect::<Vec<_>>(), "truncated": dump.truncated })
}

fn value(shown: &Shown) -> Value {
    match shown {
        Shown::Unsigned(number) => {
            u64::try_from(*number).map_or_else(|_| number.to_string().into(), Value::from)
        }
        Shown::Signed(number) => {
            i64::try_from(*number).map_or_else(|_| number.to_string().into(), Value::from)
        }
        Shown::Float(number) => json!(number),
        Shown::Flag(set) => json!(set),
        Shown::Id(id) => json!(id.to_string()),
        Shown::Bytes(bytes, more) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": hex, "more": more })
        }
        Shown::List(items, more) => {
            json!({ "items": items.iter().map(value).collect::<Vec<_>>(), "more": more })
        }
        Shown::Entries(entries, more) => {
            let entries = entries.iter().map(|(key, of)| json!([value(key), value(of)]));
            json!({ "entries": entries.collect::<Vec<_>>(), "more": more })
        }
        Shown::Record(fields) => Value::Object(
            fields.iter().map(|(name, field)| (name.clone(), value(field))).collect::<Map<_, _>>(),
        ),
        Shown::Variant(name, number) => json!({ "variant": name, "number": number }),
        Shown::Pointer(target) => pointer(target),
        Shown::Span(target, len) => json!({ "to": pointer(target), "len": len }),
        Shown::Omitted => Value::Null,
    }
}

fn pointer(target: &Target) -> Value {
    match target {
        Target::Null => Value::Null,
        Target::Local(offset) => json!({ "offset": offset }),
        Target::Foreign(object, offset) => {
            json!({ "object": object.map(|id| id.to_string()), "offset": offset })
        }
        Target::Damaged(bits) => json!({ "damaged": format!("{bits:016x}") }),
    }
}
