//! What the programming model stands on here: calls into the kernel and the program's own view.

use core::sync::atomic::AtomicU64;

use twizzler_abi::address::{PAGE_BYTES, SLOT_BYTES, Slot, band};
use twizzler_abi::call::{ControlOp, CreateSpec, ObjectStat, StatOp};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId, Rights};
use twizzler_object::Backend;
use twizzler_object::backend::Waited;

use crate::mapping::Mapping;
use crate::thread::Watch;
use crate::{call, coordination, persist, slots, startup, sync, system, system_word};

/// The system below a [`twizzler_object::Space`] of this program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rt;

/// The owner word of the program with this view: even, not 0, and another in each boot.
const fn owner_word(view: ObjId, boots: u64) -> u64 {
    // An odd factor keeps boots apart; views of one boot differ by their random IDs.
    let mixed = (view.lo ^ boots.wrapping_mul(0x9e37_79b9_7f4a_7c15)) & !1;
    if mixed == 0 { 2 } else { mixed }
}

// SAFETY: slots come from `Mapping`, which hands each out once and holds objects alone; the translation table is
// a volatile object in the program's view before `main`, and its slot is used for nothing else; the coordination segment is a
// volatile object that nobody deletes, mapped for as long as the program lives. Slots are
// addresses, not allocations of Rust: provenance does not apply to them.
unsafe impl Backend for Rt {
    fn create(&self, spec: &CreateSpec) -> Result<ObjId, Error> {
        let id = call::create_object(spec)?;
        if !ObjectFlags::from_bits_truncate(spec.flags).contains(ObjectFlags::PERSISTENT) {
            startup::own(id);
        }
        Ok(id)
    }

    fn delete(&self, id: ObjId) -> Result<(), Error> {
        call::delete(id)
    }

    fn stat(&self, id: ObjId) -> Result<ObjectStat, Error> {
        call::stat(StatOp::Object, id)
    }

    fn map(&self, id: ObjId, rights: Rights) -> Result<Slot, Error> {
        let mapping = Mapping::new(id, rights)?;
        let slot = mapping.slot();
        // The slot is the caller's until `unmap`.
        core::mem::forget(mapping);
        Ok(slot)
    }

    unsafe fn unmap(&self, slot: Slot) {
        slots::clear_entry(slot);
        slots::give_back(slot);
    }

    fn ensure(&self, id: ObjId, offset: u64, len_bytes: u64) -> Result<(), Error> {
        let end = offset.checked_add(len_bytes).ok_or(Error::OutOfRange)?;
        let end = end.checked_next_multiple_of(PAGE_BYTES).ok_or(Error::OutOfRange)?;
        let start = offset / PAGE_BYTES * PAGE_BYTES;
        if end == start {
            return Ok(());
        }
        call::control(ControlOp::Populate, id, start, end - start)
    }

    fn promote(&self, id: ObjId) -> Result<(), Error> {
        call::control(ControlOp::Promote, id, 0, 0)
    }

    fn set_type(&self, id: ObjId, was: u64, fingerprint: u64) -> Result<(), Error> {
        call::control(ControlOp::SetType, id, fingerprint, was)
    }

    fn translation(&self) -> u64 {
        band::TRANSLATION.base() + BASE_OFFSET
    }

    fn coordination(&self) -> u64 {
        coordination::address()
    }

    #[inline]
    fn thread(&self) -> u64 {
        // Each stack lies in a slot of its own, and they are given out in turn.
        let here = 0u8;
        let slot = core::ptr::from_ref(&here).addr() as u64 / SLOT_BYTES;
        2 * (1 + slot - u64::from(band::STACK.number()))
    }

    unsafe fn flush(&self, address: u64, len_bytes: u64) {
        persist::flush(address, len_bytes);
    }

    fn fence(&self) {
        persist::fence();
    }

    fn owner(&self) -> u64 {
        owner_word(slots::view(), system_word!(store_boots))
    }

    fn is_alive(&self, owner: u64) -> bool {
        let boots = system_word!(store_boots);
        system::threads().into_iter().any(|id| {
            Watch::new(id)
                .is_ok_and(|watch| watch.end().is_err() && owner_word(watch.state().view, boots) == owner)
        })
    }

    fn wait(&self, word: &AtomicU64, value: u64, timeout_ns: u64) -> Waited {
        match call::thread_sync(&mut [sync::wait(address_of(word), value)], timeout_ns) {
            Err(Error::TimedOut) => Waited::TimedOut,
            _ => Waited::Early,
        }
    }

    fn wake(&self, word: &AtomicU64) {
        let _ = call::thread_sync(&mut [sync::wake(address_of(word), u64::MAX)], 0);
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        call::random(bytes)
    }
}

fn address_of(word: &AtomicU64) -> u64 {
    core::ptr::from_ref(word).addr() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_differ_by_view_and_boot_and_are_even() {
        let words = [(7, 1), (9, 1), (7, 2)].map(|(view, boots)| owner_word(ObjId::new(view), boots));
        assert!(words.iter().all(|&word| word != 0 && word % 2 == 0));
        assert!(words[0] != words[1] && words[0] != words[2] && words[1] != words[2]);
    }
}
