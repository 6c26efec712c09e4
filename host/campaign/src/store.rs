//! The store under the crash simulator: scripts of operations, and what must be there after a power cut.
//!
//! After each cut the store is mounted and checked; all objects are read and compared; then an object is made,
//! written and deleted again, to see that what counts as free is free. A script runs on a store that others ran
//! on before, so that frames hold old data.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use spin::Mutex;
use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{ObjId, Rights, SizeClass};
use twizzler_crashsim::{Log, Rng, Scenario, SimMemory};
use twizzler_pmem::Persist;
use twizzler_store::{Access, Batch, FormatOptions, Frames, MIN_BYTES, MountOptions, Store, Tree, Unmapped};

/// The store over simulated memory.
pub type SimStore<'m> = Store<&'m SimMemory, Mutex<()>>;

/// An operation on object number `.0`. On one that doesn't exist it does nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// Makes it.
    Create(u8),
    /// Deletes it.
    Delete(u8),
    /// Writes a word in a page, durably.
    Write(u8, u64, u64),
    /// Fills a page by a fault.
    Fill(u8, u64, Batch),
    /// Makes the tree reach a page.
    Extend(u8, u64),
    /// Fills a page by a fault, and then another CPU stores a word there by itself, durably.
    Touch(u8, u64, u64),
    /// Makes pages exist.
    Populate(u8, Range<u64>),
    /// Gives pages back.
    Discard(u8, Range<u64>),
    /// Gives it a type.
    SetType(u8, u64),
    /// Makes it a large one.
    Promote(u8),
    /// Makes it the root of names.
    NamesRoot(u8),
    /// Zeroes frames ahead.
    Prepare(usize),
    /// Notes a clean shutdown.
    Shutdown,
}

/// Objects that scripts use; one more is used to try out what recovery left.
const OBJECTS: u8 = 6;
const PROBE: u8 = 200;
/// Objects whose IDs begin alike, so that they crowd one bucket of the object table.
pub const CROWDED: Range<u8> = 100..170;
/// Pages that scripts may write: ends of lines, of tables, of bounds.
pub const PAGES: [u64; 12] = [2, 3, 7, 8, 9, 15, 63, 64, 511, 512, 519, 600];

/// What a user can tell of an object.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Content {
    fingerprint: u64,
    large: bool,
    words: BTreeMap<u64, u64>,
}

/// What a user can tell of a store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Objects {
    objects: BTreeMap<u8, Content>,
    names_root: Option<u8>,
    /// The least number that a boot may have that comes next.
    boots: u64,
}

/// A script over a store.
#[derive(Clone, Debug)]
pub struct Script {
    /// Runs before, without a crash.
    pub before: Vec<Op>,
    /// Is crashed.
    pub ops: Vec<Op>,
    /// Recovery mounts at another address, so that it relocates.
    pub moves: bool,
    /// Bytes of the memory.
    pub len_bytes: u64,
}

impl Script {
    /// These operations on a store in which frames hold old data.
    #[must_use]
    pub fn new(ops: Vec<Op>) -> Self {
        let used = (0..3).flat_map(|n| {
            let writes = [2, 3, 8, 9].map(|page| Op::Write(n, page, 0xdead));
            std::iter::once(Op::Create(n)).chain(writes)
        });
        let before = used.chain((0..3).map(Op::Delete)).collect();
        Self { before, ops, moves: false, len_bytes: MIN_BYTES }
    }

    /// Random operations.
    #[must_use]
    pub fn random(rng: &mut Rng, len: usize) -> Self {
        let mut script = Self::new((0..len).map(|_| random_op(rng)).collect());
        script.before.extend((0..rng.below(8)).map(|_| random_op(rng)));
        script.moves = rng.one_in(4);
        script
    }
}

fn random_op(rng: &mut Rng) -> Op {
    let object = rng.below(OBJECTS.into()) as u8;
    let page = PAGES[rng.index(PAGES.len())];
    let batch = if rng.one_in(2) { Batch::Line } else { Batch::Page };
    match rng.below(21) {
        0..5 => Op::Create(object),
        5..7 => Op::Delete(object),
        7..11 => Op::Write(object, page, 1 + rng.below(1 << 32)),
        11 => Op::Fill(object, page, batch),
        12 => Op::Touch(object, page, 1 + rng.below(1 << 32)),
        13 => Op::Populate(object, page..page + 1 + rng.below(6)),
        14..17 => Op::Discard(object, page..page + 1 + rng.below(3)),
        17 => Op::SetType(object, 1 + rng.below(9)),
        18 => Op::NamesRoot(object),
        19 => Op::Promote(object),
        _ if rng.one_in(2) => Op::Prepare(4),
        _ => Op::Shutdown,
    }
}

/// What an object's ID is made of.
fn inputs(number: u8) -> IdInputs {
    static ALL: LazyLock<Vec<IdInputs>> = LazyLock::new(|| (0..=u8::MAX).map(find_inputs).collect());
    ALL[usize::from(number)]
}

fn id(number: u8) -> ObjId {
    static ALL: LazyLock<Vec<ObjId>> =
        LazyLock::new(|| (0..=u8::MAX).map(|number| ObjId::derive(&inputs(number))).collect());
    ALL[usize::from(number)]
}

fn find_inputs(number: u8) -> IdInputs {
    let (flags, default_rights) = (ObjectFlags::PERSISTENT, Rights::READ | Rights::WRITE);
    let made = |tries: u32| {
        let mut nonce = [number; 16];
        nonce[..4].copy_from_slice(&tries.to_le_bytes());
        IdInputs { nonce, owner: ObjId::NONE, flags, default_rights }
    };
    let crowded = |inputs: &IdInputs| !CROWDED.contains(&number) || ObjId::derive(inputs).hi >> 56 == 0x5a;
    (1..).map(made).find(crowded).expect("one in 256 has that first byte")
}

/// Where in its page a script writes: not always at the page's start.
fn place(page: u64) -> u64 {
    page * 4096 + page % 60 * 64
}

impl Objects {
    /// All that may be found when the operation is cut off, but for what was there before; what it leads to last.
    fn after(&self, op: &Op) -> Vec<Self> {
        let mut after = self.clone();
        let object = |after: &mut Self, number: u8| after.objects.get_mut(&number).map(std::mem::take);
        match op {
            Op::Create(n) => {
                after.objects.entry(*n).or_default();
            }
            Op::Delete(n) => {
                after.objects.remove(n);
            }
            Op::Write(n, page, value) | Op::Touch(n, page, value) => {
                if let Some(content) = after.objects.get_mut(n) {
                    content.words.insert(*page, *value);
                }
            }
            Op::SetType(n, fingerprint) => {
                if let Some(content) = after.objects.get_mut(n).filter(|content| content.fingerprint == 0) {
                    content.fingerprint = *fingerprint;
                }
            }
            Op::Promote(n) => {
                if let Some(content) = after.objects.get_mut(n) {
                    content.large = true;
                }
            }
            Op::NamesRoot(n) => after.names_root = Some(*n),
            Op::Discard(n, pages) => {
                let Some(content) = object(&mut after, *n) else { return vec![after] };
                return without_some(&content, pages)
                    .into_iter()
                    .map(|content| {
                        let mut after = self.clone();
                        after.objects.insert(*n, content);
                        after
                    })
                    .collect();
            }
            Op::Fill(..) | Op::Extend(..) | Op::Populate(..) | Op::Prepare(_) | Op::Shutdown => {}
        }
        vec![after]
    }
}

/// Each page of the range as it was or empty; all empty last.
fn without_some(content: &Content, pages: &Range<u64>) -> Vec<Content> {
    let gone: Vec<u64> = content.words.keys().copied().filter(|page| pages.contains(page)).collect();
    (0..1u32 << gone.len())
        .map(|mask| {
            let mut left = content.clone();
            let chosen = gone.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
            chosen.for_each(|(_, page)| _ = left.words.remove(page));
            left
        })
        .collect()
}

fn apply(store: &SimStore<'_>, op: &Op) -> Result<(), twizzler_store::Error> {
    let exists = |n: u8| store.root(id(n)).is_ok();
    match op {
        Op::Create(n) if !exists(*n) => store.create(&inputs(*n), 0).map(|_| ()),
        Op::Delete(n) if exists(*n) => store.delete(id(*n), &mut Unmapped),
        Op::Write(n, page, value) if exists(*n) => store.write_at(id(*n), place(*page), &value.to_le_bytes()),
        Op::Fill(n, page, batch) if exists(*n) => {
            let root = store.extend(id(*n), *page)?;
            Tree::new(store.frames(), root).fill(*page, *batch).map(|_| ())
        }
        Op::Extend(n, page) if exists(*n) => store.extend(id(*n), *page).map(|_| ()),
        Op::Touch(n, page, value) if exists(*n) => {
            let root = store.extend(id(*n), *page)?;
            let frame = Tree::new(store.frames(), root).fill(*page, Batch::Line)?.frame;
            // By another CPU, which flushes and fences for itself alone.
            let at = store.frames().offset(frame, 1).expect("filled from this memory") + place(*page) % 4096;
            store.media().store(at, *value);
            store.media().settle(at, 8);
            Ok(())
        }
        Op::Populate(n, pages) if exists(*n) => {
            let root = store.extend(id(*n), pages.end - 1)?;
            Tree::new(store.frames(), root).populate(pages.clone()).map(|_| ())
        }
        Op::Discard(n, pages) if exists(*n) => {
            let root = store.root(id(*n))?;
            Tree::new(store.frames(), root).discard(pages.clone(), &mut Unmapped).map(|_| ())
        }
        Op::SetType(n, fingerprint) if exists(*n) => {
            match store.set_type(id(*n), 0, *fingerprint, &mut Unmapped) {
                Err(twizzler_store::Error::WrongType) => Ok(()),
                result => result,
            }
        }
        Op::Promote(n) if exists(*n) => store.promote(id(*n)),
        Op::NamesRoot(n) => store.set_names_root(id(*n)),
        Op::Prepare(limit) => {
            store.prepare(*limit);
            Ok(())
        }
        Op::Shutdown => store.shutdown(),
        _ => Ok(()),
    }
}

/// Everything that a user can tell, read from the store.
fn observe(store: &SimStore<'_>) -> Result<Objects, String> {
    let mut found = Objects { boots: store.boots(), ..Objects::default() };
    let mut listed = ObjId::NONE;
    let mut count = 0;
    while let Some(next) = store.next_after(listed).map_err(|error| format!("list: {error}"))? {
        listed = next;
        count += 1;
        let number = (0..PROBE).find(|&n| id(n) == next).ok_or_else(|| format!("{next} was never made"))?;
        found.objects.insert(number, content(store, next)?);
    }
    if store.objects() != count {
        return Err(format!("{count} objects are listed, {} counted", store.objects()));
    }
    let root = store.names_root();
    found.names_root = (0..OBJECTS).find(|&n| id(n) == root);
    if found.names_root.is_none() && !root.is_none() {
        return Err(format!("the root of names is {root}"));
    }
    Ok(found)
}

fn content(store: &SimStore<'_>, id: ObjId) -> Result<Content, String> {
    let opened = store.open(id).map_err(|error| format!("open {id}: {error}"))?;
    let large = opened.class == SizeClass::Large;
    let mut content = Content { fingerprint: opened.metadata.fingerprint, large, ..Content::default() };
    // Of the many, it is enough that they are there.
    let pages = if (0..OBJECTS).any(|number| self::id(number) == id) { &PAGES[..] } else { &[] };
    for &page in pages {
        let mut bytes = [0; 4096];
        let read = Tree::new(store.frames(), opened.root).read(page * 4096, &mut bytes);
        read.map_err(|error| format!("read {id} page {page}: {error}"))?;
        let at = (place(page) % 4096) as usize;
        let word = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        bytes[at..at + 8].fill(0);
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(format!("page {page} of {id} holds what nobody wrote there"));
        }
        if word != 0 {
            content.words.insert(page, word);
        }
    }
    Ok(content)
}

/// Mounts, checks and observes; then uses the store a little.
fn recover(memory: &SimMemory, base: Option<u64>) -> Result<Objects, String> {
    let options = MountOptions { access: Access::ReadWrite, base };
    let (store, report) = SimStore::mount(memory, &options).map_err(|error| format!("mount: {error}"))?;
    if !report.quarantine.is_empty() {
        return Err(format!("in quarantine: {:?}", report.quarantine));
    }
    // Doubled words are for media that fail; a power cut alone spoils none.
    if report.superblock_repaired
        || report.words_damaged != 0
        || report.words_lost != 0
        || report.headers_damaged != 0
    {
        return Err(format!("damage that no power cut does: {report:?}"));
    }
    check(&store)?;
    if store.root(id(PROBE)).is_ok() {
        store.delete(id(PROBE), &mut Unmapped).map_err(|error| format!("delete the probe: {error}"))?;
    }
    let found = observe(&store)?;
    let used = |store: &SimStore<'_>| {
        store.create(&inputs(PROBE), 0)?;
        for page in [2, 3, 9] {
            store.write_at(id(PROBE), page * 4096, &[0xaa; 4096])?;
        }
        store.delete(id(PROBE), &mut Unmapped)
    };
    used(&store).map_err(|error| format!("use after recovery: {error}"))?;
    check(&store)?;
    let after = observe(&store)?;
    if after == found { Ok(found) } else { Err(format!("{after:?} after use, {found:?} before")) }
}

fn check(store: &SimStore<'_>) -> Result<(), String> {
    let report = store.check().map_err(|error| format!("check: {error}"))?;
    if report.is_clean() { Ok(()) } else { Err(format!("check: {:?}", report.findings)) }
}

fn mounted(memory: &SimMemory) -> SimStore<'_> {
    let options = MountOptions { access: Access::ReadWrite, base: None };
    SimStore::mount(memory, &options).expect("a store that was just prepared").0
}

/// Physical address that stores are made for, and the one that they move to.
const BASES: [u64; 2] = [FormatOptions::USUAL_BASE, 1 << 33];

impl Scenario for Script {
    type State = Objects;

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn setup(&self, memory: &SimMemory) {
        SimStore::format(&memory, &FormatOptions { uuid: [7; 16], base: BASES[0] }).expect("large enough");
        let store = mounted(memory);
        for op in &self.before {
            // What the script can't do for want of frames, it can't do when it is run again either.
            let _ = apply(&store, op);
        }
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Objects>) {
        let store = mounted(memory);
        let mut state = log.acknowledged().clone();
        state.boots = store.boots() + 1;
        log.acknowledge(state);
        for (number, op) in self.ops.iter().enumerate() {
            memory.run_on((number % 2) as u8);
            let states = log.acknowledged().after(op);
            let before = log.acknowledged().clone();
            log.begin_any(states.clone());
            match apply(&store, op) {
                Ok(()) => log.acknowledge(states.last().expect("at least one").clone()),
                Err(_) => log.acknowledge(before),
            }
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<Objects, String> {
        recover(memory, self.moves.then_some(BASES[1]))
    }

    fn keeps(&self, promised: &Objects, found: &Objects) -> bool {
        let same = (&promised.objects, promised.names_root) == (&found.objects, found.names_root);
        same && found.boots >= promised.boots
    }
}

/// Making a store, over nothing or over another store.
#[derive(Clone, Copy, Debug)]
pub struct Formatting {
    /// There was a store with an object.
    pub over_another: bool,
}

/// What there is in the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// Nothing that mounts.
    Unformatted,
    /// The store that was there.
    Old,
    /// The store that was made.
    New,
}

impl Scenario for Formatting {
    type State = Region;

    fn len_bytes(&self) -> u64 {
        MIN_BYTES
    }

    fn setup(&self, memory: &SimMemory) {
        if self.over_another {
            Script::new(vec![]).setup(memory);
            apply(&mounted(memory), &Op::Create(0)).expect("room");
        }
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Region>) {
        log.begin_any(vec![Region::Unformatted, Region::New]);
        SimStore::format(&memory, &FormatOptions { uuid: [8; 16], base: BASES[0] }).expect("large enough");
        log.acknowledge(Region::New);
    }

    fn recover(&self, memory: &SimMemory) -> Result<Region, String> {
        let options = MountOptions { access: Access::ReadWrite, base: None };
        let store = match SimStore::mount(memory, &options) {
            Ok((_, report))
                if report.superblock_repaired || report.words_damaged != 0 || report.headers_damaged != 0 =>
            {
                return Err(format!("damage that no power cut does: {report:?}"));
            }
            Ok((store, _)) => store,
            Err(twizzler_store::MountError::Unformatted) => return Ok(Region::Unformatted),
            Err(error) => return Err(format!("mount: {error}")),
        };
        check(&store)?;
        match (store.uuid(), store.objects()) {
            (uuid, 1) if uuid == [7; 16] => Ok(Region::Old),
            (uuid, 0) if uuid == [8; 16] => Ok(Region::New),
            (uuid, objects) => Err(format!("a store of UUID {uuid:?} with {objects} objects")),
        }
    }
}
