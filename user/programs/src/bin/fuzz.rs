//! Tries system calls with hostile arguments: `fuzz [COUNT [SEED]]`.
//!
//! Arguments are drawn from what a hostile program would try: numbers at the edges, addresses of the kernel,
//! of nothing, of read-only memory and across page ends, IDs of its own objects and of none. Calls that would
//! end or stop this thread by their meaning are made in threads of their own. It passes if the machine is still
//! there, this program's memory is untouched, and no object is left over.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES, Slot, band};
use twizzler_abi::call::{Call, ConsoleOp, ObjectStat, StatOp, ThreadOp, USUAL_RIGHTS};
use twizzler_abi::object::{BASE_OFFSET, METADATA_OFFSET};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::system::{ARCHIVE_ID, SYSTEM_ID};
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::{args, call, eprintln, exit, println, startup, system, thread};

twizzler_rt::program!(run);

const COUNT_USUAL: u64 = 20_000;
/// Bytes of the memory that hostile pointers may point into.
const SCRATCH_BYTES: u64 = 2 * PAGE_BYTES;
/// Objects that a run may have at once; older ones are deleted.
const OBJECTS_MAX: usize = 64;

fn run() -> u64 {
    let arguments = args::all();
    let number = |index: usize| arguments.get(index).map(|text| text.parse::<u64>());
    let (count, seed) = match (number(1).unwrap_or(Ok(COUNT_USUAL)), number(2), arguments.len()) {
        (Ok(count), None, 1 | 2) => (count, random_seed()),
        (Ok(count), Some(Ok(seed)), 3) => (count, seed),
        _ => {
            eprintln!("usage: fuzz [COUNT [SEED]]");
            return exit::USAGE;
        }
    };
    match Fuzzer::new(seed).and_then(|mut fuzzer| fuzzer.run(count)) {
        Ok(()) => {
            println!("fuzz: {count} calls, seed {seed}, survived");
            exit::SUCCESS
        }
        Err(error) => {
            println!("fuzz: {count} calls, seed {seed}: {error}");
            exit::FAILURE
        }
    }
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    // Without random numbers, the clock will do.
    if call::random(&mut bytes).is_err() {
        return system::now_ns();
    }
    u64::from_le_bytes(bytes) >> 16
}

/// Wrong: what the run found.
#[derive(Debug)]
enum Finding {
    /// The fuzzer itself could not work.
    Setup(Error),
    /// The canary was overwritten.
    Overwritten(u64),
    /// A call that must work did not.
    Broken(Error),
    /// An object that was not there before.
    Left(ObjectStat),
}

impl From<Error> for Finding {
    fn from(error: Error) -> Self {
        Self::Setup(error)
    }
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Setup(error) => write!(f, "could not start: {error}"),
            Self::Overwritten(call) => write!(f, "call {call} wrote where it must not"),
            Self::Broken(error) => write!(f, "a good call fails: {error}"),
            Self::Left(object) => write!(f, "an object is left over: {object:?}"),
        }
    }
}

struct Fuzzer {
    state: u64,
    scratch: Mapping,
    canary: Mapping,
    read_only: Mapping,
    objects: Vec<ObjId>,
}

impl Fuzzer {
    fn new(seed: u64) -> Result<Self, Finding> {
        let object = |rights| {
            let id = call::create(ObjectFlags::empty(), USUAL_RIGHTS)?;
            startup::own(id);
            Mapping::new(id, rights)
        };
        let scratch = object(Rights::READ | Rights::WRITE)?;
        let canary = object(Rights::READ | Rights::WRITE)?;
        canary.write(BASE_OFFSET, &[0x5a; 64]);
        Ok(Self {
            state: seed | 1 << 63,
            scratch,
            canary,
            read_only: object(Rights::READ)?,
            objects: Vec::new(),
        })
    }

    fn run(&mut self, count: u64) -> Result<(), Finding> {
        let before = objects();
        for index in 0..count {
            self.one();
            self.check(index)?;
            if self.objects.len() > OBJECTS_MAX {
                self.clean_up();
            }
        }
        self.clean_up();
        self.threads(count / 200)?;
        match objects().difference(&before).next() {
            None => Ok(()),
            Some(&left) => Err(Finding::Left(call::stat(StatOp::Object, left)?)),
        }
    }

    /// Deletes what the hostile calls have made. Threads first: each keeps the view that it runs in.
    fn clean_up(&mut self) {
        let is_thread = |id: &ObjId| {
            call::stat(StatOp::Object, *id).is_ok_and(|stat| stat.flags & ObjectFlags::THREAD.bits() != 0)
        };
        let (threads, others): (Vec<_>, Vec<_>) = self.objects.drain(..).partition(is_thread);
        for &id in &threads {
            if call::thread_kill(id).is_ok()
                && let Ok(watch) = thread::Watch::new(id)
            {
                let _ = watch.wait();
            }
        }
        for id in threads.into_iter().chain(others) {
            call::delete_soon(id);
        }
    }

    fn check(&self, index: u64) -> Result<(), Finding> {
        let mut bytes = [0; 64];
        self.canary.read(BASE_OFFSET, &mut bytes);
        if bytes != [0x5a; 64] {
            return Err(Finding::Overwritten(index));
        }
        match call::stat(StatOp::Object, self.canary.id()) {
            Ok(stat) if stat.id == self.canary.id() => Ok(()),
            Ok(_) => Err(Finding::Broken(Error::Damaged)),
            Err(error) => Err(Finding::Broken(error)),
        }
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Any number, mostly from the edges.
    fn number(&mut self) -> u64 {
        let edges =
            [0, 1, 2, 3, 4, 5, 16, 31, 32, 64, 0xfff, 0x1000, 0x1001, 0x3000, 0x7fff_ffff, SLOT_BYTES];
        match self.below(8) {
            0 => self.next(),
            1 => u64::MAX - self.below(4096),
            2 => 1 << self.below(64),
            3 => self.below(1 << 32),
            _ => edges[self.below(edges.len() as u64) as usize],
        }
    }

    /// An address that the kernel may not write to, or may because nobody minds.
    fn pointer(&mut self) -> u64 {
        let scratch = self.scratch.address() + BASE_OFFSET;
        let offset = self.below(SCRATCH_BYTES);
        match self.below(16) {
            0 => 0,
            1 => self.below(1 << 20),
            2 => (1 << 47) - self.below(64),
            3 => 1 << 47 | self.next(),
            4 => 0xffff_8000_0000_0000 | self.below(1 << 40),
            5 => 0xffff_ffff_8020_0000 + offset,
            6 => self.read_only.address() + BASE_OFFSET + offset,
            7 => band::TEXT.base() + BASE_OFFSET + offset,
            8 => band::SYSTEM.base() + BASE_OFFSET + offset,
            9 => self.scratch.address() + METADATA_OFFSET + offset % 128,
            10 => self.scratch.address() + offset % PAGE_BYTES,
            11 => scratch + SLOT_BYTES - BASE_OFFSET - self.below(256),
            12 => scratch + PAGE_BYTES - self.below(32),
            _ => scratch + offset / 8 * 8,
        }
    }

    fn id(&mut self) -> ObjId {
        let index = self.next() as usize;
        match self.below(8) {
            0 => ObjId { hi: self.next(), lo: self.next() },
            1 => ObjId::NONE,
            2 => SYSTEM_ID,
            3 => ARCHIVE_ID,
            4 => ObjId { hi: u64::MAX, lo: self.number() },
            _ if self.objects.is_empty() => ObjId::new(7),
            _ => self.objects[index % self.objects.len()],
        }
    }

    /// Fills the scratch memory with words that may mean something.
    fn fill(&mut self) {
        for offset in (0..256).step_by(8) {
            let word = match self.below(4) {
                // No thread is to run this program's own instructions in some strange state.
                0 => Some(self.pointer()).filter(|&p| Slot::of(p) != Some(band::TEXT)).unwrap_or(0),
                1 => self.id().lo,
                _ => self.number(),
            };
            self.scratch.write(BASE_OFFSET + offset, &word.to_le_bytes());
        }
    }

    /// One call.
    fn one(&mut self) {
        let calls = Call::ALL;
        let number = match self.below(20) {
            0 => self.number(),
            _ => calls[self.below(calls.len() as u64) as usize].0 as u64,
        };
        self.fill();
        let arguments = match Call::try_from(number) {
            Ok(call) => self.arguments(call),
            // Numbers of Linux and of nothing.
            Err(_) => core::array::from_fn(|_| self.number()),
        };
        let Some(arguments) = self.harmless(number, arguments) else { return };
        // SAFETY: a right kernel writes only to the scratch object, which holds nothing that Rust knows of: other
        // addresses are unmapped, not writable, or the kernel's. A wrong kernel is what this program is to find.
        let (error, _) = unsafe { twizzler_rt::raw(number, arguments) };
        let makes = number == Call::Create as u64 || number == Call::ThreadSpawn as u64;
        if makes && error == 0 {
            self.remember(arguments[1]);
        }
    }

    /// Arguments that make sense for the call, more or less.
    fn arguments(&mut self, call: Call) -> [u64; 6] {
        let id = self.id();
        let (a, b) = (self.number(), self.number());
        let (p, q) = (self.pointer(), self.pointer());
        match call {
            Call::Create => {
                self.create_spec();
                // What is read anywhere else may be a good spec of what can't be deleted.
                let readable = [self.scratch.slot(), self.read_only.slot(), band::TEXT, band::SYSTEM];
                let readable = Slot::of(p).is_some_and(|slot| readable.contains(&slot));
                [if readable || a % 4 > 0 { self.scratch.address() + BASE_OFFSET } else { p }, q, a, b, 0, 0]
            }
            Call::Delete => [id.hi, id.lo, a, b, 0, 0],
            Call::Stat => [self.below(5), id.hi, id.lo, p, a, b],
            Call::Control => {
                let pages = self.below(64) * PAGE_BYTES;
                let (at, len) = if a % 4 == 0 { (a, b) } else { (pages, self.below(8) * PAGE_BYTES) };
                [self.below(8), id.hi, id.lo, at, len, 0]
            }
            Call::Invalidate => [id.hi, id.lo, a, b, 0, 0],
            Call::ThreadControl => [self.below(10), id.hi, id.lo, a, b, 0],
            Call::ThreadSync => [p, self.below(70), self.below(2000), a, b, 0],
            Call::Random => [p, a, b, 0, 0, 0],
            Call::Console => [self.below(5), p, a, b, 0, 0],
            _ => [p, q, a, b, id.hi, id.lo],
        }
    }

    /// Half a chance of a right spec. What is made can be deleted again in any case.
    fn create_spec(&mut self) {
        let deletable = Rights::DELETE.bits();
        if self.below(2) == 0 {
            let rights = self.number() as u32 | deletable;
            self.scratch.write(BASE_OFFSET + 36, &rights.to_le_bytes());
            return;
        }
        let flags = [0, 1, ObjectFlags::VIEW.bits(), ObjectFlags::LARGE.bits(), 1 << self.below(8) as u32];
        let flags = flags[self.below(5) as usize];
        self.scratch.zero(BASE_OFFSET, 48);
        self.scratch.write(BASE_OFFSET + 32, &flags.to_le_bytes());
        let rights = self.below(16) as u32 | deletable;
        self.scratch.write(BASE_OFFSET + 36, &rights.to_le_bytes());
    }

    /// None for a call that would end this program by its meaning, or trouble others.
    fn harmless(&mut self, number: u64, mut arguments: [u64; 6]) -> Option<[u64; 6]> {
        let own = [twizzler_rt::slots::view(), self.scratch.id(), self.canary.id(), self.read_only.id()];
        match Call::try_from(number) {
            Ok(Call::Power) => {
                // Off is 0; any other operation must be refused, and so must a status above 63.
                arguments[0] = arguments[0].max(1);
                Some(arguments)
            }
            Ok(Call::Console) if arguments[0] <= ConsoleOp::WriteError as u64 => {
                arguments[1] |= 1 << 47;
                (arguments[0] != ConsoleOp::Read as u64).then_some(arguments)
            }
            Ok(Call::ThreadControl) => {
                let op = ThreadOp::try_from(arguments[0]).ok();
                let fatal = [ThreadOp::Exit, ThreadOp::SetHandler, ThreadOp::UpcallReturn].map(Some);
                (!fatal.contains(&op)).then_some(arguments)
            }
            Ok(Call::ThreadSync) => {
                // The shortest waits only.
                arguments[2] = arguments[2].min(2000);
                Some(arguments)
            }
            // Without a spec of its own making, an object might be made that nobody knows of.
            Ok(Call::Create | Call::ThreadSpawn) => Some(arguments),
            Ok(Call::Delete) => {
                let id = ObjId { hi: arguments[0], lo: arguments[1] };
                (!own.contains(&id)).then_some(arguments)
            }
            Ok(_) | Err(_) => Some(arguments),
        }
    }

    /// Keeps the ID of what a call has made.
    fn remember(&mut self, pointer: u64) {
        let offset = pointer.wrapping_sub(self.scratch.address());
        if offset > SLOT_BYTES - 16 {
            return;
        }
        let mut bytes = [0; 16];
        self.scratch.read(offset, &mut bytes);
        let (hi, lo) = bytes.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        self.objects.push(ObjId { hi: word(hi), lo: word(lo) });
    }

    /// What would end this thread, in others.
    fn threads(&mut self, count: u64) -> Result<(), Finding> {
        for index in 0..count {
            self.fill();
            let op = [ThreadOp::Exit, ThreadOp::UpcallReturn, ThreadOp::SetHandler][self.below(3) as usize];
            let (a, b) = (self.pointer(), self.number());
            let handle = thread::spawn("victim", move || {
                // SAFETY: whatever state the kernel lets the thread go on with, it is a thread of this program, which
                // answers for what hostile programs do: the addresses are those of `pointer`, where no code of it lies.
                let _ = unsafe { twizzler_rt::raw(Call::ThreadControl as u64, [op as u64, a, b, 0, 0, 0]) };
            })?;
            let _ = handle.join();
            self.check(index)?;
        }
        Ok(())
    }
}

fn objects() -> BTreeSet<ObjId> {
    let ids = |op| call::objects(op).map(|stat| stat.id);
    ids(StatOp::NextVolatile).chain(ids(StatOp::NextPersistent)).collect()
}
