//! What happens when something is used up.

use alloc::string::String;
use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_abi::call::ControlOp;
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::ObjectFlags;
use twizzler_rt::{call, sync, system_word};

use super::{Temporary, Test, Verdict, same};

pub(super) const TESTS: &[Test] = &[
    ("exhausted_memory_is_an_error", || {
        exhausted(ObjectFlags::empty(), Error::OutOfMemory, || system_word!(dram_free_bytes))
    }),
    ("exhausted_nvm_is_an_error", || {
        exhausted(ObjectFlags::PERSISTENT, Error::OutOfNvm, || system_word!(nvm_free_bytes))
    }),
];

/// Objects take pages until there are none; then a call fails, the system goes on, and deleting gives all back.
fn exhausted(flags: ObjectFlags, expected: Error, free: fn() -> u64) -> Verdict {
    // In the first round, the kernel's own tables may grow to what so many objects need.
    same("error", exhaust(flags, free())?, expected)?;
    let before = free();
    same("error", exhaust(flags, before)?, expected)?;
    let lost = before.saturating_sub(free());
    if lost <= 64 << 10 { Ok(()) } else { Err(alloc::format!("{lost} bytes do not come back")) }
}

/// The error that ends it.
fn exhaust(flags: ObjectFlags, free: u64) -> Result<Error, String> {
    const PART_BYTES: u64 = 32 << 20;
    let mut objects: Vec<Temporary> = Vec::new();
    let error = loop {
        let step = Temporary::new(flags).and_then(|object| {
            let id = object.0;
            objects.push(object);
            call::control(ControlOp::Populate, id, BASE_OFFSET, PART_BYTES)
        });
        if let Err(error) = step {
            break error;
        }
        if objects.len() as u64 > free / PART_BYTES + 2 {
            return Err("more was given than there is".into());
        }
    };
    drop(objects);
    // The gauges are published now and then.
    sync::sleep_ns(100_000_000);
    Ok(error)
}
