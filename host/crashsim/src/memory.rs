//! [`SimMemory`]: persistent memory that writes down what was done to it.

use std::backtrace::Backtrace;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use twizzler_pmem::{LINE_BYTES, Persist, Unreadable};

use crate::image::Image;

/// Number of a CPU.
pub type Cpu = u8;

/// One step of a trace.
#[derive(Clone, Debug)]
pub enum Event {
    /// Words that changed, ascending: one word for a store; several for a bulk write, whose order within
    /// a line is not known.
    Stored(Vec<(u64, u64)>),
    /// The lines of a range were flushed by a CPU.
    Flushed(Cpu, Range<u64>),
    /// A fence by a CPU: covers what this CPU flushed, not what others did.
    Fenced(Cpu),
    /// A range became durable by other means than this trace's flushes and fences.
    Settled(Range<u64>),
    /// What must be found after a crash changed: a number of [`crate::Log`].
    Marked(usize),
}

/// A flush or fence, by its number from the start of the trace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Step {
    /// The n-th flush.
    Flush(usize),
    /// The n-th fence.
    Fence(usize),
}

/// Steps to leave out, to see whether anybody notices.
pub type Dropped = Arc<BTreeSet<Step>>;

/// Persistent memory that records each store, flush and fence.
///
/// Loads see what was stored, as on a machine that runs. What media may hold is worked out from the trace
/// by [`crate::Media`].
pub struct SimMemory {
    inner: Mutex<Inner>,
    len_bytes: u64,
}

struct Inner {
    now: Image,
    trace: Vec<Event>,
    flushes: usize,
    fences: usize,
    cpu: Cpu,
    dropped: Dropped,
    /// Where each flush and fence stands, if that is asked for.
    sites: Option<Vec<(Step, String)>>,
    unreadable: Vec<Range<u64>>,
}

impl SimMemory {
    /// Zeros.
    #[must_use]
    pub fn zeroed(len_bytes: u64) -> Self {
        Self::of(Image::zeroed(len_bytes))
    }

    /// Memory as it comes up after a power cut.
    #[must_use]
    pub fn of(image: Image) -> Self {
        let len_bytes = image.len_bytes();
        let inner = Inner {
            now: image,
            trace: Vec::new(),
            flushes: 0,
            fences: 0,
            cpu: 0,
            dropped: Dropped::default(),
            sites: None,
            unreadable: Vec::new(),
        };
        Self { inner: Mutex::new(inner), len_bytes }
    }

    /// What loads see now.
    #[must_use]
    pub fn image(&self) -> Image {
        self.lock().now.clone()
    }

    /// Takes the trace; recording starts anew.
    pub fn take_trace(&self) -> Vec<Event> {
        let mut inner = self.lock();
        inner.flushes = 0;
        inner.fences = 0;
        std::mem::take(&mut inner.trace)
    }

    /// Makes what a range holds durable, without the help of a fence: for what is below the code under test,
    /// and tested by itself.
    pub fn settle(&self, at: u64, len_bytes: u64) {
        self.lock().trace.push(Event::Settled(at..at + len_bytes));
    }

    /// What follows runs on this CPU: its fences don't wait for what other CPUs have flushed.
    pub fn run_on(&self, cpu: Cpu) {
        self.lock().cpu = cpu;
    }

    /// Looks at what loads see now.
    pub fn with_image<R>(&self, look: impl FnOnce(&Image) -> R) -> R {
        look(&self.lock().now)
    }

    /// Flushes and fences since the trace began.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let inner = self.lock();
        Counts { flushes: inner.flushes, fences: inner.fences }
    }

    /// Leaves out these steps from now on.
    pub fn drop_steps(&self, steps: Dropped) {
        self.lock().dropped = steps;
    }

    /// From now on, notes where each flush and fence stands. Slow.
    pub fn note_sites(&self) {
        self.lock().sites = Some(Vec::new());
    }

    /// Each flush and fence since [`SimMemory::note_sites`], with the innermost callers outside the simulator.
    #[must_use]
    pub fn take_sites(&self) -> Vec<(Step, String)> {
        self.lock().sites.take().unwrap_or_default()
    }

    /// Makes a range of media unreadable, as a poisoned line is.
    pub fn poison(&self, range: Range<u64>) {
        self.lock().unreadable.push(range);
    }

    pub(crate) fn mark(&self, number: usize) {
        self.lock().trace.push(Event::Marked(number));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in the code under test is a finding of its own; the image is whole at each step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many flushes and fences.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Calls of [`Persist::flush`].
    pub flushes: usize,
    /// Calls of [`Persist::fence`].
    pub fences: usize,
}

impl Persist for SimMemory {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn load(&self, at: u64) -> u64 {
        let inner = self.lock();
        inner.refuse_unreadable(at, 8);
        inner.now.word(at)
    }

    fn store(&self, at: u64, value: u64) {
        self.lock().word(at, value);
    }

    fn compare_exchange(&self, at: u64, old: u64, new: u64) -> Result<(), u64> {
        let mut inner = self.lock();
        let found = inner.now.word(at);
        if found != old {
            return Err(found);
        }
        inner.word(at, new);
        Ok(())
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        let inner = self.lock();
        inner.refuse_unreadable(at, buffer.len() as u64);
        inner.now.read(at, buffer);
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.lock().bulk(at, bytes);
    }

    fn zero(&self, at: u64, len_bytes: u64) {
        let len = usize::try_from(len_bytes).expect("fits the host's memory");
        self.lock().bulk(at, &vec![0; len]);
    }

    fn flush(&self, at: u64, len_bytes: u64) {
        let mut inner = self.lock();
        let end = at.checked_add(len_bytes).filter(|&end| end <= self.len_bytes);
        let end = end.unwrap_or_else(|| panic!("{len_bytes} bytes at {at:#x} are not in the region"));
        let number = inner.flushes;
        inner.flushes += 1;
        if !inner.drops(Step::Flush(number)) {
            let cpu = inner.cpu;
            inner.trace.push(Event::Flushed(cpu, at..end));
        }
    }

    fn fence(&self) {
        let mut inner = self.lock();
        let number = inner.fences;
        inner.fences += 1;
        if !inner.drops(Step::Fence(number)) {
            let cpu = inner.cpu;
            inner.trace.push(Event::Fenced(cpu));
        }
    }

    fn check_readable(&self, at: u64, len_bytes: u64) -> Result<(), Unreadable> {
        match self.lock().first_unreadable(at, len_bytes) {
            Some(at) => Err(Unreadable { at }),
            None => Ok(()),
        }
    }
}

impl Inner {
    /// Whether a step is to be left out.
    fn drops(&mut self, step: Step) -> bool {
        if let Some(sites) = &mut self.sites {
            let kind = if matches!(step, Step::Flush(_)) { "flush" } else { "fence" };
            sites.push((step, format!("{kind} in {}", site_of(&Backtrace::force_capture().to_string()))));
        }
        self.dropped.contains(&step)
    }

    fn word(&mut self, at: u64, value: u64) {
        if self.now.word(at) != value {
            self.now.write(at, &value.to_le_bytes());
            self.trace.push(Event::Stored(vec![(at, value)]));
        }
    }

    fn bulk(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let first = at / LINE_BYTES * LINE_BYTES;
        let end = (at + bytes.len() as u64).next_multiple_of(LINE_BYTES);
        let words =
            |image: &Image| -> Vec<u64> { (first..end).step_by(8).map(|at| image.word(at)).collect() };
        let before = words(&self.now);
        self.now.write(at, bytes);
        let after = words(&self.now);
        let changed = before.iter().zip(&after).enumerate().filter(|(_, (before, after))| before != after);
        let changed: Vec<_> = changed.map(|(i, (_, &after))| (first + 8 * i as u64, after)).collect();
        if !changed.is_empty() {
            self.trace.push(Event::Stored(changed));
        }
    }

    fn first_unreadable(&self, at: u64, len_bytes: u64) -> Option<u64> {
        let end = at.saturating_add(len_bytes);
        let hits = self.unreadable.iter().filter(|range| range.start < end && at < range.end);
        hits.map(|range| range.start.max(at)).min()
    }

    fn refuse_unreadable(&self, at: u64, len_bytes: u64) {
        if let Some(at) = self.first_unreadable(at, len_bytes) {
            panic!("read unreadable media at {at:#x} without asking first");
        }
    }
}

/// The innermost callers that are neither the simulator nor the standard library: three are enough to tell. The
/// scenario's own frames are left out where it called others.
fn site_of(trace: &str) -> String {
    const OURS: [&str; 7] = [
        "backtrace",
        "crashsim",
        "twizzler_campaign::objects",
        "twizzler_campaign::hooked",
        "core::",
        "alloc::",
        "std::",
    ];
    const FORWARDS: [&str; 2] = ["pmem::Persist", "<&B as twizzler_object::backend::Backend>"];
    let mut names = Vec::new();
    let mut lines = trace.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let Some((_, name)) = line.split_once(": ").filter(|_| !line.starts_with("at ")) else { continue };
        let ours = |ours: &&str| name.trim_start_matches('<').starts_with(*ours);
        if OURS.iter().any(ours)
            || name.contains("crashsim")
            || FORWARDS.iter().any(|trait_| name.contains(trait_))
        {
            continue;
        }
        if name.contains("campaign") && !names.is_empty() {
            break;
        }
        let place = lines.peek().and_then(|next| next.strip_prefix("at ")).unwrap_or("");
        let place = place.rsplit('/').next().unwrap_or(place);
        names.push(format!("{name} ({place})"));
        if names.len() == 3 {
            break;
        }
    }
    names.join(" < ")
}
