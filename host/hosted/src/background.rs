//! Checkpoints beside the commits: a thread that is started when the first one is due, and ends before the store is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::hosted::Base;

/// What the thread is to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Next {
    #[default]
    Nothing,
    Checkpoint,
    End,
}

#[derive(Debug, Default)]
struct Desk {
    next: Mutex<Next>,
    changed: Condvar,
    /// A checkpoint was asked for and has not ended, so that nobody else need ask.
    asked: AtomicBool,
}

impl Desk {
    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, next: Next) {
        *self.next() = next;
        self.changed.notify_all();
    }

    /// Checkpoints whenever it is asked for, until the end.
    fn work(&self, base: &Base) {
        loop {
            let next = self.changed.wait_while(self.next(), |next| *next == Next::Nothing);
            let mut next = next.unwrap_or_else(PoisonError::into_inner);
            if *next == Next::End {
                return;
            }
            *next = Next::Nothing;
            drop(next);
            base.try_checkpoint();
            self.asked.store(false, Ordering::Relaxed);
        }
    }
}

/// A process's thread for checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Background {
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Asks for a checkpoint, and doesn't wait for it.
    pub(crate) fn checkpoint(&self, base: &Arc<Base>) {
        if self.desk.asked.swap(true, Ordering::Relaxed) {
            return;
        }
        self.desk.say(Next::Checkpoint);
        let mut thread = self.thread();
        if thread.is_none() {
            let (desk, base_of_thread) = (self.desk.clone(), base.clone());
            let started = std::thread::Builder::new()
                .name("twizzler-checkpoint".into())
                .spawn(move || desk.work(&base_of_thread));
            match started {
                Ok(started) => *thread = Some(started),
                // No room for a thread: whoever commits does it.
                Err(_) => {
                    drop(thread);
                    base.try_checkpoint();
                    self.desk.asked.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// Ends the thread, after the checkpoint that it is at.
    pub(crate) fn end(&self) {
        if let Some(thread) = self.thread().take() {
            self.desk.say(Next::End);
            // It doesn't panic; and if it did, the log would have what is missing.
            let _ = thread.join();
        }
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
