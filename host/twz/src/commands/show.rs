//! `show`: an object from the inside: header, pointers to others, and its values, where the store describes their type, or its bytes.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use twizzler_abi::object::{BASE_OFFSET, Header};
use twizzler_abi::pointer::FotKind;
use twizzler_abi::{Error, ObjId};
use twizzler_object::types::Dump;

use super::stat::{ObjectFacts, object_facts};
use crate::answer::{Answer, Table};
use crate::medium::Medium;
use crate::object::{fot, header, metadata, rights_text};
use crate::open::Opened;
use crate::status::{Failure, Status};
use crate::typed::{self, HeldHere};

/// Arguments of `show`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The store
    pub store: PathBuf,
    /// Name or ID of the object
    pub name: String,
    /// First byte to show, counted from the base
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub from: u64,
    /// Bytes to show, of what has no described type
    #[arg(long, default_value_t = 256, value_name = "BYTES")]
    pub bytes: u64,
    /// Show the bytes although the type is described
    #[arg(long)]
    pub raw: bool,
    /// Places to show, of what has a described type: the base, and what its pointers lead to
    #[arg(long, default_value_t = 32, value_name = "PLACES")]
    pub places: usize,
}

/// An object from the inside.
#[derive(Clone, Debug, Serialize)]
struct Inside {
    #[serde(flatten)]
    object: ObjectFacts,
    /// Offset of the allocator's root; 0: no heap.
    heap_offset: u64,
    /// The last transaction that changed it.
    version: u64,
    /// Types of which values were allocated in it.
    types: Vec<HeldHere>,
    /// Objects that its pointers lead to.
    pointers: Vec<Pointer>,
    /// Its values by their type, where the store describes that.
    values: Option<serde_json::Value>,
    /// Where `bytes` begin, from the base.
    from: u64,
    /// Hexadecimal.
    bytes: String,
    #[serde(skip)]
    raw: Vec<u8>,
    #[serde(skip)]
    dump: Option<Dump>,
}

#[derive(Clone, Debug, Serialize)]
struct Pointer {
    /// Index in the FOT.
    index: usize,
    /// ID of the target, or why there is none to tell.
    target: String,
    /// Rights asked for.
    rights: String,
    /// Names of the target.
    names: Vec<String>,
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = self.object.table();
        let heap =
            if self.heap_offset == 0 { "none".to_owned() } else { format!("at {:#x}", self.heap_offset) };
        table.row(["heap".to_owned(), heap]);
        table.row(["version".to_owned(), self.version.to_string()]);
        write!(f, "{table}")?;
        if !self.types.is_empty() {
            let mut table = Table::new(&["HOLDS", ">VERSION", "FINGERPRINT"]);
            for HeldHere { fingerprint, name, version } in &self.types {
                let version = version.map_or_else(|| "?".to_owned(), |version| version.to_string());
                let name = name.clone().unwrap_or_else(|| "?".to_owned());
                table.row([name, version, fingerprint.clone()]);
            }
            write!(f, "\n{table}")?;
        }
        if !self.pointers.is_empty() {
            let mut table = Table::new(&[">FOT", "LEADS TO", "RIGHTS", "NAMES"]);
            for Pointer { index, target, rights, names } in &self.pointers {
                table.row([index.to_string(), target.clone(), rights.clone(), names.join(", ")]);
            }
            write!(f, "\n{table}")?;
        }
        if let Some(dump) = &self.dump {
            let more = if dump.truncated { "and more: --places shows more\n" } else { "" };
            return write!(f, "\n{dump}{more}");
        }
        if !self.raw.is_empty() {
            writeln!(f)?;
        }
        let lines = self.raw.chunks(16).enumerate();
        lines
            .map(|(number, line)| dump_line(self.from + number as u64 * 16, line))
            .try_for_each(|l| writeln!(f, "{l}"))
    }
}

/// A line of a dump: offset, bytes, and the characters among them.
fn dump_line(offset: u64, bytes: &[u8]) -> String {
    let hex: String = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| if at == 8 { format!("  {byte:02x}") } else { format!(" {byte:02x}") })
        .collect();
    let is_shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    let text: String =
        bytes.iter().map(|&byte| if is_shown(byte) { char::from(byte) } else { '.' }).collect();
    format!("{offset:08x} {hex:<50} {text}")
}

/// `show`.
///
/// # Errors
/// No such object, or it can't be read.
pub fn run<M: Medium>(store: &Opened<M>, arguments: &Arguments) -> Result<Answer, Failure> {
    let name = &arguments.name;
    let id = store.object(name)?;
    let object = object_facts(store, name)?;
    let header = header(store.medium(), id).map_err(Failure::of(name))?;
    let len = header.len_bytes.saturating_sub(arguments.from).min(arguments.bytes);
    let mut raw = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(1 << 30)];
    let from = BASE_OFFSET.saturating_add(arguments.from);
    store.medium().read_raw(id, from, &mut raw).map_err(Failure::of(name))?;
    let fingerprint = metadata(store.medium(), id).map_err(Failure::of(name))?.fingerprint;
    let dump = match fingerprint {
        0 => None,
        _ if arguments.raw => None,
        fingerprint => typed::read(store.medium(), id, fingerprint, arguments.places)
            .map_err(|error| unreadable(name, error))?,
    };
    let inside = Inside {
        object,
        heap_offset: header.allocator,
        version: header.domain_versions[0],
        types: typed::held(store.medium(), id, fingerprint).map_err(Failure::of(name))?,
        pointers: pointers(store, id, &header)?,
        values: dump.as_ref().map(typed::as_json),
        from: arguments.from,
        bytes: raw.iter().map(|byte| format!("{byte:02x}")).collect(),
        raw,
        dump,
    };
    Ok(Answer::of(&inside))
}

/// Why values can't be shown.
fn unreadable(name: &str, error: Error) -> Failure {
    match error {
        Error::Damaged => Failure::new(
            Status::Damaged,
            format!("{name}: it, or what describes its type, is damaged, or was made by another version of Twizzler"),
        )
        .advise("--raw shows its bytes; a program built with the version that made it reads it"),
        error => Failure::of(name)(error),
    }
}

fn pointers<M: Medium>(store: &Opened<M>, id: ObjId, header: &Header) -> Result<Vec<Pointer>, Failure> {
    let names = store.names_by_id()?;
    let entries = fot(store.medium(), id, header)?;
    let of_entry = |(index, entry): (usize, &twizzler_abi::pointer::FotEntry)| {
        let (target, rights, names) = match entry.decode() {
            Ok((FotKind::Free, _)) => return None,
            Ok((FotKind::Id, rights)) => {
                let names = names.get(&entry.target).cloned().unwrap_or_default();
                (entry.target.to_string(), rights_text(rights), names)
            }
            Ok((FotKind::Name, rights)) => {
                (late_name(store, id, entry.target), rights_text(rights), Vec::new())
            }
            Err(error) => (error.to_string(), String::new(), Vec::new()),
        };
        Some(Pointer { index, target, rights, names })
    };
    Ok(entries.iter().enumerate().skip(1).filter_map(of_entry).collect())
}

/// The name that a late-bound entry holds: offset and length in its own object.
fn late_name<M: Medium>(store: &Opened<M>, id: ObjId, place: ObjId) -> String {
    let mut name = vec![0; place.lo.min(4096) as usize];
    match store.medium().read_raw(id, place.hi, &mut name) {
        Ok(()) => format!("name {:?}", String::from_utf8_lossy(&name)),
        Err(error) => error.to_string(),
    }
}
