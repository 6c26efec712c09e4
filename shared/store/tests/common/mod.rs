//! What the tests share: a store over counted heap memory.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{ObjId, Rights};
use twizzler_crashsim::counted::{Costs, Counted};
use twizzler_crashsim::heap::Memory;
use twizzler_store::{Access, FormatOptions, MountOptions, MountReport, Store};

pub type Media = Counted<Memory>;
pub type TestStore = Store<Media, spin::Mutex<()>>;

pub const MIB: u64 = 1 << 20;
pub const BASE: u64 = 0x1_4000_0000;
pub const FORMAT: FormatOptions = FormatOptions { uuid: *b"0123456789abcdef", base: BASE };
pub const WRITE: MountOptions = MountOptions { access: Access::ReadWrite, base: None };
pub const READ: MountOptions = MountOptions { access: Access::ReadOnly, base: None };

pub fn fresh(len_bytes: u64) -> TestStore {
    let media = Counted::new(Memory::zeroed(len_bytes));
    TestStore::format(&media, &FORMAT).expect("large enough");
    mount(media).0
}

pub fn mount(media: Media) -> (TestStore, MountReport) {
    TestStore::mount(media, &WRITE).expect("a store")
}

/// The same bytes, mounted anew.
pub fn again(store: &TestStore) -> (TestStore, MountReport) {
    mount(Counted::new(store.media().inner().clone()))
}

pub fn image(store: &TestStore) -> Vec<u8> {
    store.media().inner().to_bytes()
}

pub fn from_image(bytes: &[u8]) -> Media {
    Counted::new(Memory::from_bytes(bytes))
}

pub fn inputs(number: u128) -> IdInputs {
    IdInputs {
        nonce: number.to_le_bytes(),
        owner: ObjId::NONE,
        flags: ObjectFlags::PERSISTENT,
        default_rights: Rights::READ | Rights::WRITE,
    }
}

pub fn large(number: u128) -> IdInputs {
    IdInputs { flags: ObjectFlags::PERSISTENT | ObjectFlags::LARGE, ..inputs(number) }
}

pub fn costs_of<R>(store: &TestStore, run: impl FnOnce() -> R) -> (Costs, R) {
    let before = store.media().costs();
    let result = run();
    (store.media().costs() - before, result)
}

pub fn assert_clean(store: &TestStore) {
    let report = store.check().expect("heap");
    assert!(report.is_clean(), "{:?}", report.findings);
}

pub fn ids(store: &TestStore) -> Vec<ObjId> {
    let mut all = Vec::new();
    let mut last = ObjId::NONE;
    while let Some(id) = store.next_after(last).expect("sound table") {
        all.push(id);
        last = id;
    }
    all
}
