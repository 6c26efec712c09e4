//! Every interleaving, up to a bound on preemptions, of CPUs that fill one tree's pages at once, and of fills
//! against an exclusive discard: with loom, over the code as it is.

use std::collections::BTreeMap;
use std::sync::Mutex;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, RwLock};
use loom::thread;
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::Metadata;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{ObjId, Rights};
use twizzler_crashsim::heap::Memory;
use twizzler_pmem::Persist;
use twizzler_store::tree::{Batch, Found, Unmapped};
use twizzler_store::{FrameKind, FrameNo, Frames, Need, OutOfFrames, Root, Tree};

const FRAMES: u64 = 8;
const FIRST: FrameNo = FrameNo(0x100);
/// Words of each frame's start that loom sees. The others are never touched by two threads.
const SEEN_WORDS: u64 = 16;

/// How a compare-and-swap is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Swap {
    Atomic,
    /// Wrong on purpose: by a load and a store.
    Torn,
}

struct LoomMemory {
    seen: Vec<AtomicU64>,
    rest: Memory,
    swap: Swap,
}

impl LoomMemory {
    fn word(&self, at: u64) -> Option<&AtomicU64> {
        let (frame, word) = (at / 4096, at % 4096 / 8);
        (word < SEEN_WORDS).then(|| &self.seen[(frame * SEEN_WORDS + word) as usize])
    }
}

impl Persist for LoomMemory {
    fn len_bytes(&self) -> u64 {
        FRAMES * 4096
    }

    fn load(&self, at: u64) -> u64 {
        self.word(at).map_or_else(|| self.rest.load(at), |word| word.load(Ordering::Acquire))
    }

    fn store(&self, at: u64, value: u64) {
        match self.word(at) {
            Some(word) => word.store(value, Ordering::Release),
            None => self.rest.store(at, value),
        }
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        match self.word(at) {
            Some(word) if self.swap == Swap::Torn => {
                let is = word.load(Ordering::Acquire);
                if is != old {
                    return Err(is);
                }
                word.store(new, Ordering::Release);
                Ok(())
            }
            Some(word) => word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(|_| ()),
            None => self.rest.compare_exchange(at, old, new),
        }
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        for (chunk, at) in buffer.chunks_mut(8).zip((at..).step_by(8)) {
            chunk.copy_from_slice(&self.load(at).to_le_bytes()[..chunk.len()]);
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        for (word, at) in bytes.as_chunks::<8>().0.iter().zip((at..).step_by(8)) {
            self.store(at, u64::from_le_bytes(*word));
        }
    }

    fn zero(&self, _: u64, _: u64) {
        unreachable!("frames are zero")
    }

    fn flush(&self, _: u64, _: u64) {}

    fn fence(&self) {}
}

/// Hands each frame out once, so that it needs no zeroing; knows what is in use.
struct LoomFrames {
    memory: LoomMemory,
    // Never held across a point at which loom switches threads.
    ledger: Mutex<(u64, BTreeMap<FrameNo, FrameKind>)>,
}

impl Frames for LoomFrames {
    type Media = LoomMemory;

    fn media(&self) -> &LoomMemory {
        &self.memory
    }

    fn first(&self) -> FrameNo {
        FIRST
    }

    fn allocate(&self, kind: FrameKind, _: Need) -> Result<FrameNo, OutOfFrames> {
        let mut ledger = self.ledger.lock().expect("no panic inside");
        if ledger.0 == FRAMES {
            return Err(OutOfFrames);
        }
        let frame = FrameNo(FIRST.0 + ledger.0);
        ledger.0 += 1;
        ledger.1.insert(frame, kind);
        Ok(frame)
    }

    fn allocate_huge(&self, _: Need) -> Result<FrameNo, OutOfFrames> {
        Err(OutOfFrames)
    }

    fn free(&self, frame: FrameNo, kind: FrameKind) {
        let was = self.ledger.lock().expect("no panic inside").1.remove(&frame);
        assert_eq!(was, Some(kind), "{frame:?} is freed once, as what it is");
    }
}

fn world(swap: Swap) -> (Arc<LoomFrames>, Root) {
    let seen = (0..FRAMES * SEEN_WORDS).map(|_| AtomicU64::new(0)).collect();
    let memory = LoomMemory { seen, rest: Memory::zeroed(FRAMES * 4096), swap };
    let frames = Arc::new(LoomFrames { memory, ledger: Mutex::default() });
    let (flags, default_rights) = (ObjectFlags::PERSISTENT, Rights::READ);
    let inputs = IdInputs { nonce: [1; 16], owner: ObjId::NONE, flags, default_rights };
    let root = Tree::create(&*frames, &Metadata::new(&inputs, 0)).expect("frames").root();
    (frames, root)
}

/// At the end, what is in use is what the tree refers to.
fn check_nothing_lost(frames: &LoomFrames, root: Root, pages: u64) {
    let tree = Tree::new(frames, root);
    let linked: Vec<FrameNo> = (1..pages)
        .filter_map(|page| match tree.lookup(page).expect("sound") {
            Found::Page(frame, ..) => Some(frame),
            _ => None,
        })
        .collect();
    let ledger = frames.ledger.lock().expect("no panic inside");
    for frame in &linked {
        assert_eq!(ledger.1.get(frame), Some(&FrameKind::Data), "a linked frame is in use");
    }
    let distinct: std::collections::BTreeSet<_> = linked.iter().collect();
    assert_eq!(distinct.len(), linked.len(), "no frame is linked twice");
    assert_eq!(ledger.1.len(), linked.len() + 1, "nothing but the tree and its table is in use");
}

fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

fn two_fills(swap: Swap, preemptions: usize, batch: Batch) {
    model(preemptions, move || {
        let (frames, root) = world(swap);
        let fill = {
            let frames = Arc::clone(&frames);
            move || Tree::new(&*frames, root).fill(2, batch).map(|filled| filled.frame)
        };
        let other = thread::spawn(fill.clone());
        let mine = fill();
        let theirs = other.join().expect("no panic");
        // Both may run out of frames for more than the page; but the page has one frame.
        if let (Ok(mine), Ok(theirs)) = (mine, theirs) {
            assert_eq!(mine, theirs, "one page, one frame");
        }
        check_nothing_lost(&frames, root, 8);
    });
}

#[test]
fn cpus_that_fill_the_same_page_agree() {
    two_fills(Swap::Atomic, 3, Batch::Page);
}

#[test]
fn cpus_that_fill_the_same_line_agree() {
    two_fills(Swap::Atomic, 2, Batch::Line);
}

#[test]
#[should_panic(expected = "assertion")]
fn fills_without_atomic_swaps_are_caught() {
    two_fills(Swap::Torn, 3, Batch::Page);
}

#[test]
fn fills_and_an_exclusive_discard_lose_nothing() {
    model(2, || {
        let (frames, root) = world(Swap::Atomic);
        let lock = Arc::new(RwLock::new(()));
        let filler = {
            let (frames, lock) = (Arc::clone(&frames), Arc::clone(&lock));
            thread::spawn(move || {
                let _shared = lock.read().expect("no panic");
                Tree::new(&*frames, root).fill(2, Batch::Page).expect("frames");
            })
        };
        let discarder = {
            let (frames, lock) = (Arc::clone(&frames), Arc::clone(&lock));
            thread::spawn(move || {
                let _exclusive = lock.write().expect("no panic");
                Tree::new(&*frames, root).discard(2..4, &mut Unmapped).expect("sound");
            })
        };
        {
            let _shared = lock.read().expect("no panic");
            Tree::new(&*frames, root).fill(2, Batch::Page).expect("frames");
        }
        filler.join().expect("no panic");
        discarder.join().expect("no panic");
        check_nothing_lost(&frames, root, 8);
    });
}
