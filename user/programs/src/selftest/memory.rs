//! Objects as memory.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::{ControlOp, CreateSpec, StatOp, USUAL_RIGHTS};
use twizzler_abi::id::IdInputs;
use twizzler_abi::object::{BASE_OFFSET, METADATA_OFFSET, Metadata};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, Life, ObjId, Rights};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::{call, file, slots};
use zerocopy::FromBytes as _;

use super::{READ_WRITE, Temporary, Test, Verdict, calls, holds, same};

pub(super) const TESTS: &[Test] = &[
    ("volatile_objects_are_memory", || objects_are_memory(ObjectFlags::empty())),
    ("persistent_objects_are_memory", || objects_are_memory(ObjectFlags::PERSISTENT)),
    ("large_offsets_are_sparse", large_offsets_are_sparse),
    ("many_pages_are_made_by_one_call", many_pages_are_made_by_one_call),
    ("reading_what_is_empty_takes_one_page", reading_what_is_empty_takes_one_page),
    ("two_mappings_show_the_same", two_mappings_show_the_same),
    ("a_view_entry_counts_after_invalidate", a_view_entry_counts_after_invalidate),
    ("discarded_pages_read_as_zeros", discarded_pages_read_as_zeros),
    ("stat_tells_what_is_stored", stat_tells_what_is_stored),
    ("ids_commit_to_what_they_are_made_of", ids_commit_to_what_they_are_made_of),
    ("metadata_can_be_read", metadata_can_be_read),
    ("files_keep_their_bytes", files_keep_their_bytes),
    ("wrong_calls_are_errors", wrong_calls_are_errors),
    ("many_objects_come_and_go", many_objects_come_and_go),
];

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(31).wrapping_add(seed * 7) >> 3) as u8).collect()
}

fn objects_are_memory(flags: ObjectFlags) -> Verdict {
    calls(|| {
        let object = Temporary::new(flags)?;
        let mapping = object.map()?;
        let (mut bytes, len) = (vec![1; 3 * PAGE_BYTES as usize], 3 * PAGE_BYTES as usize);
        mapping.read(BASE_OFFSET, &mut bytes);
        let empty = bytes.iter().all(|&byte| byte == 0);
        mapping.write(BASE_OFFSET + 100, &pattern(1, len));
        drop(mapping);
        let mapping = object.map()?;
        mapping.read(BASE_OFFSET + 100, &mut bytes);
        drop(mapping);
        let id = object.0;
        drop(object);
        let gone = call::stat(StatOp::Object, id).err();
        Ok(holds("a new object reads as zeros", empty)
            .and_then(|()| holds("what was written is read", bytes == pattern(1, len)))
            .and_then(|()| same("stat after delete", gone, Some(Error::NoSuchObject))))
    })
}

fn large_offsets_are_sparse() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::PERSISTENT)?;
        let mapping = object.map()?;
        let offsets = [BASE_OFFSET, 1 << 20, 2 << 20, 100 << 20, (1 << 30) - 8];
        for (offset, value) in offsets.into_iter().zip(1..) {
            mapping.word(offset).store(value, Ordering::Relaxed);
        }
        let values: Vec<u64> =
            offsets.iter().map(|&offset| mapping.word(offset).load(Ordering::Relaxed)).collect();
        let stat = call::stat(StatOp::Usage, object.0)?;
        Ok(same("values", values, vec![1, 2, 3, 4, 5])
            .and_then(|()| // A first touch may fill its whole line of eight entries.
            holds("few pages are stored", stat.pages <= 2 + 5 * 8).and_then(|()| same("tables", stat.tables, 5))))
    })
}

/// More than the kernel makes at a stretch.
fn many_pages_are_made_by_one_call() -> Verdict {
    calls(|| {
        let (object, pages) = (Temporary::new(ObjectFlags::empty())?, 40_000);
        call::control(ControlOp::Populate, object.0, BASE_OFFSET, pages * PAGE_BYTES)?;
        Ok(same("pages", call::stat(StatOp::Usage, object.0)?.pages, 1 + pages))
    })
}

fn reading_what_is_empty_takes_one_page() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::PERSISTENT)?;
        let mapping = object.map()?;
        let pages = || call::stat(StatOp::Usage, object.0).map(|stat| stat.pages);
        let before = pages()?;
        let zeros = [20, 100, 5_000]
            .into_iter()
            .all(|page| mapping.word(page * PAGE_BYTES).load(Ordering::Relaxed) == 0);
        Ok(holds("zeros", zeros).and(same("pages that three reads stored", pages()? - before, 3)))
    })
}

fn two_mappings_show_the_same() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::empty())?;
        let (one, other) = (object.map()?, Mapping::new(object.0, Rights::READ)?);
        one.write(BASE_OFFSET, b"seen by both");
        let mut bytes = [0; 12];
        other.read(BASE_OFFSET, &mut bytes);
        Ok(same("bytes", &bytes, b"seen by both"))
    })
}

fn a_view_entry_counts_after_invalidate() -> Verdict {
    calls(|| {
        let (first, second) = (Temporary::new(ObjectFlags::empty())?, Temporary::new(ObjectFlags::empty())?);
        first.map()?.write(BASE_OFFSET, &[1]);
        second.map()?.write(BASE_OFFSET, &[2]);
        let mapping = first.map()?;
        let read = || {
            let mut byte = [0];
            mapping.read(BASE_OFFSET, &mut byte);
            byte[0]
        };
        let before = read();
        slots::set_entry(mapping.slot(), second.0, Rights::READ);
        let written = read();
        call::invalidate(slots::view(), mapping.slot(), 1)?;
        Ok(same("before, after writing the entry, after invalidating", [before, written, read()], [1, 1, 2]))
    })
}

fn discarded_pages_read_as_zeros() -> Verdict {
    calls(|| {
        let mut verdict = Ok(());
        for flags in [ObjectFlags::empty(), ObjectFlags::PERSISTENT] {
            let object = Temporary::new(flags)?;
            let mapping = object.map()?;
            mapping.write(BASE_OFFSET, &pattern(3, 2 * PAGE_BYTES as usize));
            call::control(ControlOp::Discard, object.0, BASE_OFFSET, PAGE_BYTES)?;
            let mut bytes = vec![1; 2 * PAGE_BYTES as usize];
            mapping.read(BASE_OFFSET, &mut bytes);
            let (first, second) = bytes.split_at(PAGE_BYTES as usize);
            verdict = verdict
                .and_then(|()| holds("the page is empty", first.iter().all(|&byte| byte == 0)))
                .and_then(|()| holds("its neighbour is not", second.iter().any(|&byte| byte != 0)));
        }
        Ok(verdict)
    })
}

fn stat_tells_what_is_stored() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::PERSISTENT)?;
        call::control(ControlOp::Populate, object.0, BASE_OFFSET, 5 * PAGE_BYTES)?;
        let stat = call::stat(StatOp::Usage, object.0)?;
        let listed = call::objects(StatOp::NextPersistent).any(|stat| stat.id == object.0);
        Ok(same("pages", stat.pages, 1 + 5)
            .and_then(|()| same("rights", stat.default_rights, USUAL_RIGHTS.bits()))
            .and_then(|()| same("flags", stat.flags, ObjectFlags::PERSISTENT.bits()))
            .and_then(|()| holds("it is listed", listed)))
    })
}

fn ids_commit_to_what_they_are_made_of() -> Verdict {
    calls(|| {
        let mut nonce = [0; 16];
        call::random(&mut nonce)?;
        let inputs = IdInputs {
            nonce,
            owner: ObjId::NONE,
            flags: ObjectFlags::PERSISTENT,
            default_rights: USUAL_RIGHTS,
        };
        let spec = CreateSpec {
            nonce,
            owner: ObjId::NONE,
            flags: inputs.flags.bits(),
            default_rights: inputs.default_rights.bits(),
            fingerprint: 0,
        };
        let object = Temporary(call::create_object(&spec)?);
        let again = call::create_object(&spec).err();
        Ok(same("ID", object.0, ObjId::derive(&inputs))
            .and_then(|()| same("creating it again", again, Some(Error::Exists))))
    })
}

fn metadata_can_be_read() -> Verdict {
    calls(|| {
        let object = Temporary::new(ObjectFlags::PERSISTENT)?;
        let mut bytes = [0; size_of::<Metadata>()];
        object.map()?.read(METADATA_OFFSET, &mut bytes);
        let metadata = Metadata::read_from_bytes(&bytes).map_err(|_| Error::Damaged)?;
        Ok(holds("it verifies", metadata.verify(object.0).is_ok()))
    })
}

fn files_keep_their_bytes() -> Verdict {
    calls(|| {
        let bytes = pattern(9, 3_000_001);
        let object = Temporary(file::create(Life::Persistent, &bytes)?);
        Ok(holds("they are the same", file::read(object.0)? == bytes))
    })
}

fn wrong_calls_are_errors() -> Verdict {
    let nobody = ObjId::new(77);
    let create = |flags: u32, rights: u32| {
        let spec =
            CreateSpec { nonce: [0; 16], owner: ObjId::NONE, flags, default_rights: rights, fingerprint: 0 };
        call::create_object(&spec).err()
    };
    calls(|| {
        let object = Temporary::new(ObjectFlags::PERSISTENT)?;
        let read_only = Temporary::granting(ObjectFlags::empty(), Rights::READ | Rights::DELETE)?;
        let populate = |offset, bytes| call::control(ControlOp::Populate, object.0, offset, bytes).err();
        let results = [
            (call::delete(nobody).err(), Error::NoSuchObject),
            (call::stat(StatOp::Object, nobody).err(), Error::NoSuchObject),
            (call::thread_kill(nobody).err(), Error::NoSuchObject),
            (call::thread_kill(object.0).err(), Error::NoSuchObject),
            (create(1 << 31, 0), Error::InvalidArgument),
            (create(0, 1 << 31), Error::InvalidArgument),
            (create(ObjectFlags::THREAD.bits(), 0), Error::InvalidArgument),
            (populate(1, PAGE_BYTES), Error::InvalidArgument),
            (populate(BASE_OFFSET, 1 << 40), Error::OutOfRange),
            (Mapping::new(read_only.0, READ_WRITE).err(), Error::AccessDenied),
            (call::delete(twizzler_abi::system::SYSTEM_ID).err(), Error::AccessDenied),
            (call::power_off(64).err(), Error::InvalidArgument),
        ];
        let found: Vec<_> = results.iter().map(|(found, _)| *found).collect();
        let expected: Vec<_> = results.iter().map(|(_, expected)| Some(*expected)).collect();
        Ok(same("errors", found, expected))
    })
}

fn many_objects_come_and_go() -> Verdict {
    calls(|| {
        let counts = || [StatOp::NextVolatile, StatOp::NextPersistent].map(|op| call::objects(op).count());
        let before = counts();
        for flags in [ObjectFlags::empty(), ObjectFlags::PERSISTENT] {
            let objects: Vec<Temporary> =
                (0..500).map(|_| Temporary::new(flags)).collect::<Result<_, _>>()?;
            let mappings: Vec<Mapping> = objects.iter().map(Temporary::map).collect::<Result<_, _>>()?;
            for (mapping, value) in mappings.iter().zip(0_u64..) {
                mapping.word(BASE_OFFSET).store(value, Ordering::Relaxed);
            }
            if !mappings
                .iter()
                .zip(0..)
                .all(|(mapping, value)| mapping.word(BASE_OFFSET).load(Ordering::Relaxed) == value)
            {
                return Ok(Err("objects got mixed up".into()));
            }
        }
        Ok(same("objects afterwards", counts(), before))
    })
}
