//! Section `kv13`: a key-value store in an object, against the same store that reads and writes a file.
//!
//! The published test of Twizzler (Bittman et al., USENIX ATC 2020): entries of 8 + 8 bytes, in persistent memory both times.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use twizzler::{Error, Guard, HostedBackend, InvSpan, Options, Ptr, Span, Store, Stored};
use twizzler_pmem::cache::{self, WriteBack};

use crate::Context;
use crate::clock::Stopwatch;
use crate::measure::{Contender, Tail, compete};
use crate::report::Contest;

pub(crate) const NOTES: [&str; 2] = [
    "A hash table with linear probing, half full, of entries of 8 + 8 bytes, written once and run over two kinds of memory: an object of a hosted store on tmpfs, opened as \
     persistent memory (loads; a put is a transaction with real flushes and fences), and a file on the same tmpfs (`pread` of an entry; a put is `pwrite` and \
     `fdatasync`). Both are durable when a put ends, as far as tmpfs stands for persistent memory; the file system's own work for a DAX device is missing.",
    "*Two stores, each flushed and fenced*: a record written somewhere, then the entry in its place; what a put that is all or nothing can't go below. `fdatasync` does \
     nothing on tmpfs, so the file's puts wait for no memory at all, and a ratio of 13 is out of reach wherever a fence costs what it does here.",
];

const OURS: &str = "Twizzler, in an object";
const FILE: &str = "the same over read and write";
const BOUND: &str = "two stores, each flushed and fenced, and nothing else";

/// An entry; key 0 is none.
#[derive(Stored, Clone, Copy)]
#[stored(name = "bench.kv-entry", version = 1)]
#[repr(C)]
struct Entry {
    key: u64,
    value: u64,
}

/// Where the table lies.
#[derive(Stored)]
#[stored(name = "bench.kv-table", version = 1)]
#[repr(C)]
struct Root {
    entries: InvSpan<Entry>,
}

/// An array of entries, of a length that is a power of two.
trait Array {
    fn len(&self) -> u64;
    fn read(&self, at: u64) -> Result<Entry>;
    /// Durable when it returns.
    fn write(&self, at: u64, entry: Entry) -> Result<()>;
}

/// Where a key is, or would be.
fn find(array: &impl Array, key: u64) -> Result<(u64, Entry)> {
    let mut at = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (array.len() - 1);
    loop {
        let entry = array.read(at)?;
        if entry.key == key || entry.key == 0 {
            return Ok((at, entry));
        }
        at = (at + 1) & (array.len() - 1);
    }
}

fn get(array: &impl Array, key: u64) -> Result<Option<u64>> {
    let (_, entry) = find(array, key)?;
    Ok((entry.key == key).then_some(entry.value))
}

fn put(array: &impl Array, key: u64, value: u64) -> Result<()> {
    let (at, _) = find(array, key)?;
    array.write(at, Entry { key, value })
}

/// The table in an object.
struct InObject<'g> {
    guard: &'g Guard<'g, HostedBackend>,
    entries: Span<'g, Entry>,
}

impl<'g> InObject<'g> {
    fn new(guard: &'g Guard<'g, HostedBackend>, len: u64) -> Result<Self, Error> {
        let root = guard.well_known::<Root>(*b"bench kv table\0\0")?.base();
        guard.transact(|tx| {
            let entries = tx.alloc_span::<Entry>(root.object(), len)?;
            tx.link_span(root.at(Root::entries), entries)
        })?;
        Ok(Self { guard, entries: guard.follow_span(root.at(Root::entries))? })
    }

    fn place(&self, at: u64) -> Result<Ptr<'g, Entry>, Error> {
        self.entries.index(at).ok_or(Error::OutOfRange)
    }
}

impl Array for InObject<'_> {
    fn len(&self) -> u64 {
        self.entries.len()
    }

    fn read(&self, at: u64) -> Result<Entry> {
        Ok(self.guard.get(self.place(at)?))
    }

    fn write(&self, at: u64, entry: Entry) -> Result<()> {
        let place = self.place(at)?;
        Ok(self.guard.transact(|tx| tx.set(place, entry))?)
    }
}

/// The table in a file.
struct InFile {
    file: File,
    len: u64,
}

impl InFile {
    fn new(path: &Path, len: u64) -> Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        for at in (0..len * 16).step_by(1 << 20) {
            file.write_all_at(&vec![0; 1 << 20], at)?;
        }
        Ok(Self { file, len })
    }
}

impl Array for InFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, at: u64) -> Result<Entry> {
        let (mut key, mut value) = ([0; 8], [0; 8]);
        let mut bytes = [0; 16];
        self.file.read_exact_at(&mut bytes, at * 16)?;
        key.copy_from_slice(&bytes[..8]);
        value.copy_from_slice(&bytes[8..]);
        Ok(Entry { key: u64::from_le_bytes(key), value: u64::from_le_bytes(value) })
    }

    fn write(&self, at: u64, entry: Entry) -> Result<()> {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&entry.key.to_le_bytes());
        bytes[8..].copy_from_slice(&entry.value.to_le_bytes());
        self.file.write_all_at(&bytes, at * 16)?;
        Ok(self.file.sync_data()?)
    }
}

/// What is written without a transaction: a journal line, then the entry.
struct Bare {
    flush: WriteBack,
    journal: Vec<[AtomicU64; 8]>,
    entries: Vec<[AtomicU64; 2]>,
}

impl Bare {
    fn new(len: u64) -> Self {
        Self {
            flush: WriteBack::detect(),
            journal: (0..64).map(|_| Default::default()).collect(),
            entries: (0..len).map(|_| Default::default()).collect(),
        }
    }

    fn store(&self, words: &[AtomicU64], entry: Entry) {
        words[0].store(entry.key, Ordering::Relaxed);
        words[1].store(entry.value, Ordering::Relaxed);
        self.flush.flush(words.as_ptr().addr() as u64, 16);
        cache::fence();
    }

    fn put(&self, key: u64, value: u64) {
        let entry = Entry { key, value };
        self.store(&self.journal[value as usize % self.journal.len()], entry);
        let at = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (self.entries.len() as u64 - 1);
        self.store(&self.entries[at as usize], entry);
    }
}

/// Measures.
pub(crate) fn run(context: &Context) -> Result<Vec<Contest>> {
    let entries: u64 = if context.quick { 20_000 } else { 1_000_000 };
    let len = (entries * 2).next_power_of_two().max(1 << 16);
    let folder = context.memory_folder()?;
    let file = InFile::new(&folder.path().join("file"), len)?;
    let store: Store = Options::new().assume_persistent_memory().create(folder.path().join("store"))?;
    let guard = store.space().enter();
    let object = InObject::new(&guard, len)?;
    for key in 1..=entries {
        put(&object, key, key)?;
        put(&file, key, key)?;
    }
    let bare = Bare::new(len);
    let mut contests = Vec::new();
    for (name, puts) in [("get", 0), ("put", 100), ("half gets, half puts", 50)] {
        let mut contenders =
            vec![contender(OURS, &object, entries, puts), contender(FILE, &file, entries, puts)];
        if puts == 100 {
            let (bound, mut random) = (&bare, StdRng::seed_from_u64(29));
            contenders.push(Contender::new(BOUND, move |number| {
                let clock = Stopwatch::start();
                for i in 0..number {
                    bound.put(random.random_range(1..=entries), i);
                }
                clock.elapsed()
            }));
        }
        let title = format!("{name}, {entries} entries of 8 + 8 bytes");
        let mut contest = compete(title, FILE, context.effort(), Tail::OfOperations(1000), contenders);
        let ratio = contest.row(OURS).map_or(f64::NAN, |row| row.ratio);
        contest.aim("of the time over read and write", ratio, 1.0 / 13.0);
        contests.push(contest);
    }
    Ok(contests)
}

/// Gets and puts of random keys; so many of a hundred are puts.
fn contender<'a>(name: &str, array: &'a impl Array, entries: u64, puts: u32) -> Contender<'a> {
    let mut random = StdRng::seed_from_u64(29);
    Contender::new(name, move |number| {
        let clock = Stopwatch::start();
        for i in 0..number {
            let key = random.random_range(1..=entries);
            if random.random_range(0..100) < puts {
                put(array, key, i).expect("memory suffices");
            } else {
                assert!(get(array, key).expect("memory suffices").is_some(), "an entry is lost");
            }
        }
        clock.elapsed()
    })
}
