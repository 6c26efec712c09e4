//! `ThreadSync`: waking and waiting on words.

use core::mem::offset_of;

use twizzler_abi::Error;
use twizzler_abi::call::{SYNC_OPS_MAX, SyncKind, SyncOp};
use twizzler_sched::{Outcome, WordKey};
use zerocopy::{FromZeros, IntoBytes};

use super::{Caller, Done};
use crate::machine::{clock, lock, user};
use crate::thread::scheduler;
use crate::thread::wait::{OnWake, Waited, wait};

#[inline(never)]
pub(super) fn sync(caller: &Caller<'_>, ops_at: u64, count: u64, timeout_ns: u64) -> Result<Done, Error> {
    if count > SYNC_OPS_MAX {
        return Err(Error::TooMany);
    }
    let mut buffer = [SyncOp::new_zeroed(); SYNC_OPS_MAX as usize];
    let ops = &mut buffer[..count as usize];
    user::copy_in(ops.as_mut_bytes(), ops_at)?;
    let mut keys = [None; SYNC_OPS_MAX as usize];
    for (op, key) in ops.iter().zip(&mut keys) {
        SyncKind::try_from(op.kind)?;
        *key = Some(key_of(caller, op.address)?);
    }
    let keyed = || ops.iter().zip(keys.iter().flatten());
    for (index, (op, &key)) in keyed().enumerate().filter(|(_, (op, _))| op.kind == SyncKind::Wake as u64) {
        let woken = scheduler::wake(key, op.value);
        let result_at = ops_at + (index * size_of::<SyncOp>() + offset_of!(SyncOp, result)) as u64;
        user::copy_out(result_at, woken.as_bytes())?;
    }
    let waits = || (0u32..).zip(keyed()).filter(|(_, (op, _))| op.kind == SyncKind::Wait as u64);
    if waits().next().is_none() {
        return Ok(Done::Value(count));
    }
    let words = waits().map(|(index, (_, &key))| (index, key));
    let deadline = (timeout_ns != u64::MAX).then(|| clock::now_ns().saturating_add(timeout_ns));
    let mut changed = 0;
    let waited = wait(caller.cpu, caller.thread, words, deadline, OnWake::Results, || {
        for (index, (op, _)) in waits() {
            if user::load_word(op.address)? != op.value {
                changed = index;
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    match waited {
        Waited::Blocked => Ok(Done::Elsewhere),
        Waited::Unneeded => Ok(Done::Value(u64::from(changed))),
        Waited::Ended(Outcome::Woken(index)) => Ok(Done::Value(u64::from(index))),
        Waited::Ended(Outcome::TimedOut) => Err(Error::TimedOut),
    }
}

/// Which word of which object an address is, for the caller.
fn key_of(caller: &Caller<'_>, address: u64) -> Result<WordKey, Error> {
    loop {
        // Also maps it.
        user::load_word(address)?;
        if let Some(key) = caller.thread.view.word(address) {
            return Ok(key);
        }
        // Another CPU has just made the view forget it, and perhaps waits for this one to do so too.
        lock::relax();
    }
}
