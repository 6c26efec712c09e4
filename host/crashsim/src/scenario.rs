//! What is crash-tested: a [`Scenario`], and the [`Log`] in which it says what it promised.

use std::fmt::Debug;

use crate::memory::SimMemory;

/// Something whose durability is put to the test.
pub trait Scenario {
    /// What a user of the memory can tell: compared after each crash.
    type State: Clone + PartialEq + Debug;

    /// Bytes of the memory.
    fn len_bytes(&self) -> u64;

    /// Prepares the memory. Taken as wholly durable.
    fn setup(&self, memory: &SimMemory);

    /// Works on the prepared memory, and tells the log before an operation what it may lead to, and after
    /// it that it was acknowledged.
    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Self::State>);

    /// Brings the memory up after a crash, checks everything that can be checked, and tells what is there.
    /// Called again on the same memory, and with a power cut at any point of the call before.
    ///
    /// # Errors
    /// What is wrong with the memory. Panics count as well.
    fn recover(&self, memory: &SimMemory) -> Result<Self::State, String>;

    /// Whether what was found keeps what was promised. Equality, unless a promise is weaker.
    fn keeps(&self, promised: &Self::State, found: &Self::State) -> bool {
        promised == found
    }
}

/// What a run has promised so far.
pub struct Log<'m, S> {
    memory: &'m SimMemory,
    acknowledged: S,
    pub(crate) allowed: Vec<Vec<S>>,
}

impl<'m, S: Clone> Log<'m, S> {
    pub(crate) fn new(memory: &'m SimMemory, initial: S) -> Self {
        Self { memory, acknowledged: initial.clone(), allowed: vec![vec![initial]] }
    }

    /// The state that all acknowledged operations led to.
    #[must_use]
    pub fn acknowledged(&self) -> &S {
        &self.acknowledged
    }

    /// An operation begins that leads to `after`, wholly or not at all.
    pub fn begin(&mut self, after: S) {
        self.begin_any(vec![after]);
    }

    /// An operation begins that may leave any of these states behind if it is cut off, or none of it.
    pub fn begin_any(&mut self, states: Vec<S>) {
        let mut allowed = vec![self.acknowledged.clone()];
        allowed.extend(states);
        self.expect(allowed);
    }

    /// The operation that began returned, and said that this state has been reached.
    pub fn acknowledge(&mut self, state: S) {
        self.acknowledged = state.clone();
        self.expect(vec![state]);
    }

    /// An operation from its beginning to its acknowledgement.
    pub fn operation(&mut self, after: S, work: impl FnOnce()) {
        self.begin(after.clone());
        work();
        self.acknowledge(after);
    }

    fn expect(&mut self, allowed: Vec<S>) {
        self.memory.mark(self.allowed.len());
        self.allowed.push(allowed);
    }
}
