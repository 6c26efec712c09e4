//! An object's values by the description of its type, where the store has that: see `twizzler_object::types`.

use serde_json::{Map, Value, json};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_object::types::{Dump, Shown, Target, TypeTable, dump, type_object};

use crate::medium::Medium;
use crate::object::header;

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
    let table = TypeTable::decode(fingerprint, &bytes)?;
    let source = |offset: u64, buffer: &mut [u8]| medium.read_raw(id, offset, buffer);
    dump(&source, &table, places_max).map(Some)
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
