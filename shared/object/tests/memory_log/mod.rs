//! A log in memory, for a machine whose programs die while it stays up: what is logged outlives who has logged it.

use std::mem::offset_of;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use twizzler_abi::object::{HEADER_OFFSET, Header};
use twizzler_image::MemoryBackend;
use twizzler_object::backend::Ticket;
use twizzler_object::journal::{LOG_SEED, Record};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct MemoryLog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Logged>,
    /// So many records are on the disk.
    synced: u64,
    /// Who writes to the disk, and how far.
    writes: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Logged {
    owner: u64,
    words: Vec<u64>,
    is_in_place: bool,
}

/// What one waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// The disk: the caller has begun to write.
    ForDisk,
    /// Somebody else's write.
    ForOther,
}

impl MemoryLog {
    pub(crate) fn append(&self, owner: u64, words: &[u64]) -> Ticket {
        let mut state = self.state.lock().expect("no panic");
        state.records.push(Logged { owner, words: words.to_vec(), is_in_place: false });
        let end = state.records.len() as u64;
        Ticket { number: end - 1, end }
    }

    /// Where the log ends that is on the disk, if that is `end` or further; else a step towards that.
    pub(crate) fn sync(&self, end: u64, me: u64, lives: impl Fn(u64) -> bool) -> Result<u64, Wait> {
        let mut state = self.state.lock().expect("no panic");
        if state.synced >= end {
            return Ok(state.synced);
        }
        match state.writes {
            // Begun by another call, perhaps another thread's of the same program: it is done when its time has come, here.
            Some((who, to)) if who == me || !lives(who) => {
                (state.synced, state.writes) = (to, None);
                Err(Wait::ForOther)
            }
            Some(_) => Err(Wait::ForOther),
            None => {
                state.writes = Some((me, state.records.len() as u64));
                Err(Wait::ForDisk)
            }
        }
    }

    pub(crate) fn land(&self, ticket: Ticket) {
        self.state.lock().expect("no panic").records[ticket.number as usize].is_in_place = true;
    }

    /// Puts in place what a dead program has logged, in the log's order.
    pub(crate) fn finish(&self, dead: u64, memory: &MemoryBackend) {
        let mut state = self.state.lock().expect("no panic");
        state.synced = state.records.len() as u64;
        for record in state.records.iter_mut().filter(|record| record.owner == dead && !record.is_in_place) {
            put_in_place(&record.words, memory);
            record.is_in_place = true;
        }
    }
}

fn put_in_place(words: &[u64], memory: &MemoryBackend) {
    let record = Record::decode(LOG_SEED, words).expect("as it was logged");
    let objects: Vec<_> = record.objects().collect();
    let base = |number: usize| memory.address_of(objects[number].id);
    for line in record.lines() {
        let (number, offset, line) = line.expect("as it was logged");
        let Some(base) = base(number) else { continue };
        for at in line.runs().flat_map(|(first, len)| first..first + len) {
            let place = std::ptr::with_exposed_provenance::<AtomicU8>((base + offset + at) as usize);
            // SAFETY: a committed record names bytes of objects that exist, whose memory is as long as the backend.
            unsafe { &*place }.store(line.bytes[at as usize], Ordering::Relaxed);
        }
    }
    for (number, object) in objects.iter().enumerate() {
        let Some(base) = base(number) else { continue };
        let at = base + HEADER_OFFSET + offset_of!(Header, domain_versions) as u64;
        // SAFETY: the header of an object that exists, aligned by a page.
        let version = unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(at as usize) };
        version.store(object.version, Ordering::Relaxed);
    }
}
