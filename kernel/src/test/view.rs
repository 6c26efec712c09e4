//! Views: faults that map, faults that don't, and what makes CPUs forget.

use alloc::string::String;
use alloc::sync::Arc;

use twizzler_abi::ObjId;
use twizzler_abi::address::{SMALL_SLOTS, Slot, band, pml4};
use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::rights::{ObjectFlags, Rights};
use twizzler_abi::thread::FaultKind;
use twizzler_abi::view::{ViewEntry, entry_offset};
use twizzler_store::FrameNo;
use zerocopy::{FromZeros, IntoBytes};

use super::object::{say, volatile};
use super::{Test, check};
use crate::machine::entry::Access;
use crate::machine::start_info::Boot;
use crate::object::{Object, create, delete};
use crate::view::fault::{Resolved, resolve};
use crate::view::{View, table};

const MIB: u64 = 1 << 20;
const READ_WRITE: Rights = Rights::READ.union(Rights::WRITE);

pub(super) const TESTS: &[Test] = &[
    Test { name: "view_maps_at_a_fault", run: maps },
    Test { name: "view_rights_are_in_the_upper_entry", run: rights },
    Test { name: "view_faults_are_told_apart", run: told_apart },
    Test { name: "view_shows_an_object_that_grows", run: shows_growth },
    Test { name: "view_record_holds_until_invalidated", run: record_holds },
    Test { name: "view_forgets_a_deleted_object", run: forgets_deleted },
    Test { name: "view_maps_large_objects", run: maps_large },
    Test { name: "view_shows_promoted_objects_in_both_sizes", run: promotes },
    Test { name: "view_is_no_view", run: wrong_kind },
];

/// A view in which one thread is said to run.
struct Fixture {
    object: Arc<Object>,
    view: Arc<View>,
}

impl Fixture {
    fn new() -> Result<Self, String> {
        let object = create::volatile(ObjectFlags::VIEW, USUAL_RIGHTS).map_err(say)?;
        let view = View::enter(&object).map_err(say)?;
        Ok(Self { object, view })
    }

    fn set(&self, slot: Slot, id: ObjId, rights: u32) -> Result<(), String> {
        let entry = ViewEntry { id, rights, reserved: 0, sequence: 2 };
        self.object.write(entry_offset(slot), entry.as_bytes()).map_err(say)
    }

    fn touch(&self, address: u64, access: Access) -> Result<Resolved, FaultKind> {
        resolve(&self.view, address, access, 0).map_err(|(kind, _)| kind)
    }

    /// The physical address and the rights that the MMU finds at an address.
    fn walk(&self, address: u64) -> Option<(u64, bool, bool)> {
        let mut table = FrameNo::of(self.view.root().pml4().address());
        let (mut write, mut execute) = (true, true);
        for level in (0..4).rev() {
            let entry = table::get(table, (address >> (12 + 9 * level)) as usize % table::ENTRIES);
            let next = table::target(entry)?;
            write &= entry & 2 != 0;
            execute &= entry >> 63 == 0;
            if level == 0 || entry & 1 << 7 != 0 {
                let span = 1 << (12 + 9 * level);
                return Some((next.physical() / span * span + address % span, write, execute));
            }
            table = next;
        }
        None
    }

    fn end(self) -> Result<(), String> {
        self.view.thread_left();
        drop(self.view);
        delete::delete(&self.object).map_err(say)
    }
}

fn slot(number: u32) -> Slot {
    Slot::new(SMALL_SLOTS.start + number).expect("a small slot")
}

fn maps(_: &Boot) -> Result<(), String> {
    let fixture = Fixture::new()?;
    let object = volatile()?;
    object.write(BASE_OFFSET, &[1]).map_err(say)?;
    fixture.set(slot(0), object.id, READ_WRITE.bits())?;
    let at = slot(0).base() + BASE_OFFSET;
    check!(fixture.walk(at).is_none());
    check!(fixture.touch(at, Access::Read) == Ok(Resolved::Changed));
    check!(fixture.touch(at, Access::Read) == Ok(Resolved::NothingToDo));
    check!(fixture.walk(at).is_some_and(|(_, write, execute)| write && !execute));
    check!(fixture.walk(at + 4096).is_none());
    check!(fixture.touch(at + 4096, Access::Write) == Ok(Resolved::Changed));
    check!(fixture.walk(at + 4096).is_some());
    check!(delete::delete(&fixture.object) == Err(twizzler_abi::Error::Busy), "threads run in it");
    delete::delete(&object).map_err(say)?;
    fixture.end()
}

fn rights(_: &Boot) -> Result<(), String> {
    let fixture = Fixture::new()?;
    let object = create::volatile(ObjectFlags::empty(), Rights::READ | Rights::WRITE | Rights::EXECUTE)
        .map_err(say)?;
    let wanted = [Rights::READ, READ_WRITE, Rights::READ | Rights::EXECUTE];
    for (number, rights) in (0..).zip(wanted) {
        fixture.set(slot(number), object.id, rights.bits())?;
        let at = slot(number).base() + BASE_OFFSET;
        check!(fixture.touch(at, Access::Read).is_ok());
        let found = fixture.walk(at).map(|(_, write, execute)| (write, execute));
        check!(found == Some((rights.contains(Rights::WRITE), rights.contains(Rights::EXECUTE))));
        let may_write = fixture.touch(at, Access::Write).is_ok();
        check!(may_write == rights.contains(Rights::WRITE));
    }
    let metadata = slot(1).base() + 4096;
    check!(fixture.touch(metadata, Access::Read).is_ok());
    check!(fixture.touch(metadata, Access::Write) == Err(FaultKind::NoRight));
    check!(fixture.walk(metadata).is_some_and(|(_, write, _)| !write), "the MMU refuses it too");
    delete::delete(&object).map_err(say)?;
    fixture.end()
}

fn told_apart(_: &Boot) -> Result<(), String> {
    let fixture = Fixture::new()?;
    let object = volatile()?;
    let read_only = create::volatile(ObjectFlags::empty(), Rights::READ).map_err(say)?;
    object.forbid(4 * MIB, 4096).map_err(say)?;
    fixture.set(slot(0), object.id, READ_WRITE.bits())?;
    fixture.set(slot(1), ObjId::new(12345), READ_WRITE.bits())?;
    fixture.set(slot(2), read_only.id, READ_WRITE.bits())?;
    fixture.set(slot(3), object.id, 1 << 20)?;
    fixture.set(slot(4), object.id, 0)?;
    let base = |number| slot(number).base() + BASE_OFFSET;
    let expected = [
        (8, Access::Read, FaultKind::NullPage),
        (slot(0).base() + 8, Access::Read, FaultKind::NullPage),
        (base(9), Access::Read, FaultKind::NotMapped),
        (1 << 47, Access::Read, FaultKind::NotMapped),
        (u64::MAX, Access::Read, FaultKind::NotMapped),
        (u64::from(pml4::TINY.start) << 39, Access::Read, FaultKind::NotMapped),
        (base(1), Access::Read, FaultKind::NoSuchObject),
        (base(2), Access::Read, FaultKind::NoRight),
        (base(3), Access::Read, FaultKind::BadView),
        (base(4), Access::Read, FaultKind::BadView),
        (base(0), Access::Fetch, FaultKind::NoRight),
        (slot(0).base() + 4 * MIB, Access::Read, FaultKind::OutOfRange),
    ];
    for (address, access, kind) in expected {
        let found = fixture.touch(address, access);
        check!(found == Err(kind), "{address:#x}: {found:?}");
    }
    let stack_low = slot(0).base() + 4 * MIB + 4096;
    let below = |address| resolve(&fixture.view, address, Access::Write, stack_low).map_err(|(kind, _)| kind);
    check!(below(stack_low - 8) == Err(FaultKind::StackOverflow));
    delete::delete(&object).map_err(say)?;
    delete::delete(&read_only).map_err(say)?;
    fixture.end()
}

fn shows_growth(_: &Boot) -> Result<(), String> {
    let fixture = Fixture::new()?;
    let object = volatile()?;
    fixture.set(slot(0), object.id, READ_WRITE.bits())?;
    fixture.set(slot(1), object.id, Rights::READ.bits())?;
    let offsets = [BASE_OFFSET, 2 * MIB, 700 * MIB];
    for offset in offsets {
        for number in 0..2 {
            fixture
                .touch(slot(number).base() + offset, Access::Read)
                .map_err(|kind| String::from(kind.text()))?;
        }
    }
    for offset in offsets {
        let (at, write, _) = fixture.walk(slot(0).base() + offset).ok_or("not mapped")?;
        let (same, no_write, _) = fixture.walk(slot(1).base() + offset).ok_or("not mapped")?;
        check!(at == same && write && !no_write, "at {offset:#x}");
    }
    delete::delete(&object).map_err(say)?;
    fixture.end()
}

fn record_holds(_: &Boot) -> Result<(), String> {
    let fixture = Fixture::new()?;
    let (first, second) = (volatile()?, volatile()?);
    let at = slot(0).base() + BASE_OFFSET;
    fixture.set(slot(0), first.id, READ_WRITE.bits())?;
    check!(fixture.touch(at, Access::Write).is_ok());
    let before = fixture.walk(at);
    fixture.set(slot(0), second.id, READ_WRITE.bits())?;
    check!(fixture.touch(at, Access::Write) == Ok(Resolved::NothingToDo));
    check!(fixture.walk(at) == before);
    fixture.view.invalidate(slot(0).number(), 1).map_err(say)?;
    check!(fixture.walk(at).is_none());
    check!(fixture.touch(at, Access::Write) == Ok(Resolved::Changed));
    check!(fixture.walk(at) != before);
    fixture.view.invalidate(0, band::TEXT.number()).map_err(say)?;
    check!(fixture.walk(at).is_none());
    delete::delete(&first).map_err(say)?;
    delete::delete(&second).map_err(say)?;
    fixture.end()
}

fn forgets_deleted(_: &Boot) -> Result<(), String> {
    let fixture = Fixture::new()?;
    let object = volatile()?;
    for number in 0..100 {
        fixture.set(slot(number), object.id, READ_WRITE.bits())?;
        check!(fixture.touch(slot(number).base() + BASE_OFFSET, Access::Write).is_ok());
    }
    delete::delete(&object).map_err(say)?;
    for number in 0..100 {
        let at = slot(number).base() + BASE_OFFSET;
        check!(fixture.walk(at).is_none());
        check!(fixture.touch(at, Access::Write) == Err(FaultKind::NoSuchObject));
    }
    fixture.end()
}

fn maps_large(_: &Boot) -> Result<(), String> {
    let fixture = Fixture::new()?;
    let flags = ObjectFlags::LARGE;
    let spec = CreateSpec { flags: flags.bits(), default_rights: 3, ..CreateSpec::new_zeroed() };
    let object = create::create(&spec).map_err(say)?;
    let first = Slot::new(pml4::LARGE.start * 512).ok_or("a large slot")?;
    fixture.set(first, object.id, READ_WRITE.bits())?;
    fixture.set(slot(0), object.id, READ_WRITE.bits())?;
    for offset in [BASE_OFFSET, 3 * MIB, 5 << 30, (1 << 39) - 8] {
        check!(fixture.touch(first.base() + offset, Access::Write) == Ok(Resolved::Changed));
    }
    // The first GiB shows in a small slot too.
    check!(fixture.touch(slot(0).base() + 3 * MIB, Access::Read) == Ok(Resolved::Changed));
    check!(fixture.walk(slot(0).base() + 3 * MIB) == fixture.walk(first.base() + 3 * MIB));
    for offset in [BASE_OFFSET, 3 * MIB, 5 << 30, (1 << 39) - 8] {
        check!(fixture.walk(first.base() + offset).is_some_and(|(_, write, _)| write), "at {offset:#x}");
    }
    delete::delete(&object).map_err(say)?;
    check!(fixture.walk(first.base() + BASE_OFFSET).is_none());
    fixture.end()
}

/// A small object is mapped while its tree has one, two and three levels, is promoted, and mapped as a large one too: all show the same.
fn promotes(_: &Boot) -> Result<(), String> {
    let fixture = Fixture::new()?;
    let object = volatile()?;
    let first = Slot::new(pml4::LARGE.start * 512).ok_or("a large slot")?;
    fixture.set(slot(0), object.id, READ_WRITE.bits())?;
    fixture.set(first, object.id, READ_WRITE.bits())?;
    check!(fixture.touch(slot(0).base() + BASE_OFFSET, Access::Write) == Ok(Resolved::Changed));
    check!(fixture.touch(first.base() + BASE_OFFSET, Access::Read) == Err(FaultKind::BadView));
    object.promote().map_err(say)?;
    object.promote().map_err(say)?;
    check!(fixture.touch(first.base() + BASE_OFFSET, Access::Write) == Ok(Resolved::Changed));
    for far in [3 * MIB, 5 << 30] {
        check!(fixture.touch(first.base() + far, Access::Write) == Ok(Resolved::Changed));
        check!(fixture.walk(first.base() + far).is_some_and(|(_, write, _)| write), "at {far:#x}");
        for offset in [BASE_OFFSET, 3 * MIB].into_iter().filter(|&offset| offset <= far) {
            check!(fixture.touch(slot(0).base() + offset, Access::Read).is_ok(), "at {offset:#x}");
            let places = [slot(0), first].map(|slot| fixture.walk(slot.base() + offset));
            check!(places[0].is_some() && places[0] == places[1], "at {offset:#x}");
        }
    }
    delete::delete(&object).map_err(say)?;
    check!(fixture.walk(first.base() + (5 << 30)).is_none());
    check!(fixture.walk(slot(0).base() + BASE_OFFSET).is_none());
    fixture.end()
}

fn wrong_kind(_: &Boot) -> Result<(), String> {
    let object = volatile()?;
    check!(View::enter(&object).err() == Some(twizzler_abi::Error::WrongType));
    delete::delete(&object).map_err(say)
}
