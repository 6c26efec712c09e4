//! Keys and what is under them, in persistent maps.
//!
//! The keys are spread over *shards*, each an object of its own, so that who changes one does not wait for who changes another. A
//! shard is one ordered map: under each key a [`Record`], and behind the records the *items* of hashes, sets and
//! lists, which are ordered by key, so that those of one key are neighbours.

use std::ops::Bound::{Excluded, Included, Unbounded};

use super::resp::ARGUMENT_COST_BYTES;
use twizzler::collections::{BytesMap, KEY_BYTES_MAX, MapRoot};
use twizzler::{Error, Guard, HostedBackend, InvPtr, Ptr, Reader, Stored, Tx};

/// Objects that the keys are spread over.
pub(super) const SHARDS: usize = 16;

/// The base of a database.
#[derive(Stored)]
#[stored(name = "example.redis", version = 1)]
#[repr(C)]
pub(super) struct Database {
    /// Where the keys are, by hash.
    pub(super) shards: [InvPtr<Shard>; SHARDS],
}

/// A part of the keys.
#[derive(Stored)]
#[stored(name = "example.redis.shard", version = 1)]
#[repr(C)]
pub(super) struct Shard {
    /// How many there are, those counted that have expired and were not met yet.
    pub(super) keys: u64,
    /// Records and items.
    pub(super) map: MapRoot,
}

/// Why a command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fail {
    /// The client's mistake: whatever was changed is to be undone, and the client is told.
    Refused(&'static str),
    /// The system's: the transaction is to be given up.
    System(Error),
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::System(error)
    }
}

/// What Redis says where a key holds something of another kind.
pub(super) const WRONG_TYPE: Fail =
    Fail::Refused("WRONGTYPE Operation against a key holding the wrong kind of value");
/// A key, or a key with a field, that a map can't hold.
const TOO_LONG: Fail = Fail::Refused("ERR the key, with its field, is too long");
/// What a key has before it in a map: tag and length.
const PREFIX_BYTES: usize = 3;

/// What a key holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Bytes: the record's body.
    String = 1,
    /// Items numbered from the body's first word up to its second.
    List = 2,
    /// Items by field; the body counts them.
    Hash = 3,
    /// Items without values; the body counts them.
    Set = 4,
}

impl Kind {
    /// As `TYPE` says it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Hash => "hash",
            Self::Set => "set",
        }
    }

    fn of(byte: u8) -> Result<Self, Error> {
        let kinds = [Self::String, Self::List, Self::Hash, Self::Set];
        kinds.into_iter().find(|&kind| kind as u8 == byte).ok_or(Error::Damaged)
    }
}

/// What is said of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// What it holds.
    pub(super) kind: Kind,
    /// When it goes, in milliseconds since 1970; 0: never.
    pub(super) expires_ms: u64,
    /// By [`Kind`].
    pub(super) body: Vec<u8>,
}

impl Record {
    /// A record that doesn't expire.
    pub(super) fn new(kind: Kind, body: Vec<u8>) -> Self {
        Self { kind, expires_ms: 0, body }
    }

    fn encode(&self) -> Vec<u8> {
        [&[self.kind as u8], &self.expires_ms.to_le_bytes()[..], &self.body].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let (head, body) = bytes.split_first_chunk::<9>().ok_or(Error::Damaged)?;
        let [kind, expires @ ..] = *head;
        Ok(Self { kind: Kind::of(kind)?, expires_ms: u64::from_le_bytes(expires), body: body.to_vec() })
    }

    /// The words of the body.
    pub(super) fn words<const N: usize>(&self) -> Result<[u64; N], Error> {
        let mut words = [0; N];
        if self.body.len() != N * 8 {
            return Err(Error::Damaged);
        }
        for (word, bytes) in words.iter_mut().zip(self.body.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().map_err(|_| Error::Damaged)?);
        }
        Ok(words)
    }

    /// Sets the words of the body.
    pub(super) fn set_words<const N: usize>(&mut self, words: [u64; N]) {
        self.body = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    }
}

/// Longest answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Refuses an answer of more than can be made at once.
pub(super) const fn check_answer(bytes: usize) -> Result<(), Fail> {
    if bytes <= ANSWER_BYTES_MAX { Ok(()) } else { Err(Fail::Refused("ERR the answer is too long")) }
}

/// Items of a key: suffix and value.
pub(super) type Items = Vec<(Vec<u8>, Vec<u8>)>;

/// How the keys are seen.
pub(super) enum View<'a, 'g> {
    /// As they are.
    Look(&'g Guard<'g, HostedBackend>),
    /// Within a transaction, which may change them.
    Change(&'a mut Tx<'g, HostedBackend>),
}

/// Calls a method of a map with the view's reader.
macro_rules! by {
    ($view:expr, $reader:ident => $do:expr) => {
        match $view {
            View::Look($reader) => $do,
            View::Change($reader) => {
                let $reader = &**$reader;
                $do
            }
        }
    };
}

/// All keys, for one batch of commands.
pub(super) struct Keys<'a, 'g> {
    view: View<'a, 'g>,
    shards: &'a [Ptr<'g, Shard>],
    now_ms: u64,
    changed: bool,
}

const RECORD: u8 = 1;
const ITEM: u8 = 2;

impl<'a, 'g> Keys<'a, 'g> {
    /// The keys in these shards, at that time.
    pub(super) fn new(view: View<'a, 'g>, shards: &'a [Ptr<'g, Shard>], now_ms: u64) -> Self {
        Self { view, shards, now_ms, changed: false }
    }

    /// The time that the batch runs at, in milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Whether anything was changed since it was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn shard(&self, key: &[u8]) -> Ptr<'g, Shard> {
        // FNV-1a; which hash it is has become part of the format.
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        self.shards[(hash >> 32) as usize % self.shards.len()]
    }

    fn map(&self, key: &[u8]) -> BytesMap<'g> {
        BytesMap::new(self.shard(key).at(Shard::map))
    }

    fn tx(&mut self) -> Result<&mut Tx<'g, HostedBackend>, Error> {
        self.changed = true;
        match &mut self.view {
            View::Change(tx) => Ok(tx),
            View::Look(_) => Err(Error::ReadOnly),
        }
    }

    /// What is said of a key, if it is there.
    pub(super) fn record(&self, key: &[u8]) -> Result<Option<Record>, Fail> {
        let Some(record) = self.record_or_expired(key)? else { return Ok(None) };
        Ok(Some(record).filter(|record| record.expires_ms == 0 || record.expires_ms > self.now_ms))
    }

    fn record_or_expired(&self, key: &[u8]) -> Result<Option<Record>, Fail> {
        let Ok(at) = record_key(key) else { return Ok(None) };
        let found = by!(&self.view, reader => self.map(key).get(reader, &at))?;
        Ok(found.map(|bytes| Record::decode(&bytes)).transpose()?)
    }

    /// The same of a key that holds that kind.
    pub(super) fn record_of(&self, key: &[u8], kind: Kind) -> Result<Option<Record>, Fail> {
        match self.record(key)? {
            Some(record) if record.kind != kind => Err(WRONG_TYPE),
            record => Ok(record),
        }
    }

    /// Says this of a key from now on. Whatever it held of another kind must have been removed.
    pub(super) fn set_record(&mut self, key: &[u8], record: &Record) -> Result<(), Fail> {
        let (map, at) = (self.map(key), record_key(key)?);
        let had_it = map.insert(self.tx()?, &at, &record.encode())?;
        if had_it { Ok(()) } else { self.count(key, 1) }
    }

    /// Removes a key with all its items. False where it wasn't there.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<bool, Fail> {
        let Some(record) = self.record_or_expired(key)? else { return Ok(false) };
        if record.kind != Kind::String {
            let mut suffixes = Vec::new();
            self.each_item(key, &[], usize::MAX, |suffix, _| {
                suffixes.push(suffix.to_vec());
                Ok(())
            })?;
            for suffix in suffixes {
                self.remove_item(key, &suffix)?;
            }
        }
        let (map, at) = (self.map(key), record_key(key)?);
        map.remove(self.tx()?, &at)?;
        self.count(key, -1)?;
        Ok(record.expires_ms == 0 || record.expires_ms > self.now_ms)
    }

    /// Removes a key that has expired; to be called before a key is changed.
    pub(super) fn expire(&mut self, key: &[u8]) -> Result<(), Fail> {
        match self.record_or_expired(key)? {
            Some(record) if record.expires_ms != 0 && record.expires_ms <= self.now_ms => {
                self.remove(key).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, key: &[u8], change: i64) -> Result<(), Fail> {
        let place = self.shard(key).at(Shard::keys);
        let tx = self.tx()?;
        let keys = tx.get(place).checked_add_signed(change).ok_or(Error::Damaged)?;
        Ok(tx.set(place, keys)?)
    }

    /// An item of a key.
    pub(super) fn item(&self, key: &[u8], suffix: &[u8]) -> Result<Option<Vec<u8>>, Fail> {
        let Ok(at) = item_key(key, suffix) else { return Ok(None) };
        Ok(by!(&self.view, reader => self.map(key).get(reader, &at))?)
    }

    /// Sets an item. True where it was there.
    pub(super) fn set_item(&mut self, key: &[u8], suffix: &[u8], value: &[u8]) -> Result<bool, Fail> {
        let (map, at) = (self.map(key), item_key(key, suffix)?);
        Ok(map.insert(self.tx()?, &at, value)?)
    }

    /// Removes an item. False where it wasn't there.
    pub(super) fn remove_item(&mut self, key: &[u8], suffix: &[u8]) -> Result<bool, Fail> {
        let Ok(at) = item_key(key, suffix) else { return Ok(false) };
        let map = self.map(key);
        Ok(map.remove(self.tx()?, &at)?)
    }

    /// All items of a key, in order: suffix and value.
    pub(super) fn items(&self, key: &[u8]) -> Result<Items, Fail> {
        self.items_from(key, &[], usize::MAX)
    }

    /// At most `len` items of a key, from a suffix on.
    pub(super) fn items_from(&self, key: &[u8], from: &[u8], len: usize) -> Result<Items, Fail> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        self.each_item(key, from, len, |suffix, value| {
            bytes += suffix.len() + value.len() + ARGUMENT_COST_BYTES;
            check_answer(bytes)?;
            items.push((suffix.to_vec(), value));
            Ok(())
        })?;
        Ok(items)
    }

    /// Goes through at most `len` items of a key, from a suffix on.
    fn each_item(
        &self,
        key: &[u8],
        from: &[u8],
        len: usize,
        mut visit: impl FnMut(&[u8], Vec<u8>) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        let (first, prefix) = (item_key(key, from)?, item_key(key, &[])?);
        let map = self.map(key);
        by!(&self.view, reader => {
            for entry in map.range(reader, (Included(first.as_slice()), Unbounded)).take(len) {
                let (at, value) = entry?;
                let Some(suffix) = at.strip_prefix(prefix.as_slice()) else { break };
                visit(suffix, value)?;
            }
            Ok(())
        })
    }

    /// How many keys there are; those count that have expired and were not met since.
    pub(super) fn len(&self) -> Result<u64, Fail> {
        let count = |shard: &Ptr<'g, Shard>| by!(&self.view, reader => reader.get(shard.at(Shard::keys)));
        Ok(self.shards.iter().map(count).sum())
    }

    /// The keys of one shard, in order, that are wanted.
    pub(super) fn keys_of(
        &self,
        shard: usize,
        wanted: impl Fn(&[u8], Kind) -> bool,
    ) -> Result<Vec<Vec<u8>>, Fail> {
        let Some(shard) = self.shards.get(shard) else { return Ok(Vec::new()) };
        let map = BytesMap::new(shard.at(Shard::map));
        by!(&self.view, reader => {
            let (mut keys, mut bytes) = (Vec::new(), 0);
            for entry in map.range(reader, (Included(&[RECORD][..]), Excluded(&[ITEM][..]))) {
                let (at, record) = entry?;
                let record = Record::decode(&record)?;
                let is_there = record.expires_ms == 0 || record.expires_ms > self.now_ms;
                if is_there && wanted(&at[1..], record.kind) {
                    bytes += at.len() + ARGUMENT_COST_BYTES;
                    check_answer(bytes)?;
                    keys.push(at[1..].to_vec());
                }
            }
            Ok(keys)
        })
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) -> Result<(), Fail> {
        for shard in self.shards {
            let tx = self.tx()?;
            BytesMap::new(shard.at(Shard::map)).clear(tx)?;
            tx.set(shard.at(Shard::keys), 0)?;
        }
        Ok(())
    }
}

fn record_key(key: &[u8]) -> Result<Vec<u8>, Fail> {
    if key.len() + PREFIX_BYTES > KEY_BYTES_MAX {
        return Err(TOO_LONG);
    }
    Ok([&[RECORD], key].concat())
}

fn item_key(key: &[u8], suffix: &[u8]) -> Result<Vec<u8>, Fail> {
    if key.len() + suffix.len() + PREFIX_BYTES > KEY_BYTES_MAX {
        return Err(TOO_LONG);
    }
    let len = u16::try_from(key.len()).map_err(|_| TOO_LONG)?;
    Ok([&[ITEM], &len.to_be_bytes()[..], key, suffix].concat())
}
