//! Objects come, hold bytes, are found again and go.

mod common;

use common::*;
use twizzler_abi::ObjId;
use twizzler_store::{Access, Error, MountError, MountOptions, Tree, Unmapped};

#[test]
fn an_object_is_there_after_the_next_mount() {
    let store = fresh(4 * MIB);
    let id = store.create(&inputs(1), 7).expect("room");
    store.write_at(id, 0x3000, b"hello").expect("room");
    store.set_names_root(id).expect("writable");
    let (store, report) = again(&store);
    assert_eq!((report.objects, report.boots, report.clean), (1, 2, false));
    assert!(report.quarantine.is_empty());
    let mut bytes = [1; 8];
    store.read_at(id, 0x3000, &mut bytes).expect("there");
    assert_eq!(&bytes, b"hello\0\0\0");
    assert_eq!(store.open(id).expect("verifies").metadata.fingerprint, 7);
    assert_eq!(store.names_root(), id);
    assert_clean(&store);
}

#[test]
fn deleting_gives_every_frame_back() {
    let store = fresh(4 * MIB);
    let before = store.counts();
    let id = store.create(&inputs(1), 0).expect("room");
    for page in [2, 3, 9, 100, 600, 5000] {
        store.write_at(id, page * 4096, &[page as u8]).expect("room");
    }
    assert_eq!(store.stat(id).expect("there").usage.pages, 7);
    assert_clean(&store);
    store.delete(id, &mut Unmapped).expect("there");
    assert_eq!(store.counts(), before);
    assert_eq!(store.open(id), Err(Error::NoSuchObject));
    assert_eq!(store.delete(id, &mut Unmapped), Err(Error::NoSuchObject));
    assert_clean(&store);
}

#[test]
fn the_same_inputs_are_refused_while_the_object_exists() {
    let store = fresh(4 * MIB);
    let id = store.create(&inputs(1), 0).expect("room");
    let before = store.counts();
    assert_eq!(store.create(&inputs(1), 0), Err(Error::Exists));
    assert_eq!(store.counts(), before);
    store.delete(id, &mut Unmapped).expect("there");
    assert_eq!(store.create(&inputs(1), 0), Ok(id));
    assert_clean(&store);
}

#[test]
fn thousands_of_objects_are_listed_in_order_and_survive() {
    let store = fresh(64 * MIB);
    let mut all: Vec<ObjId> = (0..5000).map(|i| store.create(&inputs(i), 0).expect("room")).collect();
    for gone in all.split_off(4000) {
        store.delete(gone, &mut Unmapped).expect("there");
    }
    all.sort_unstable();
    assert_eq!(ids(&store), all);
    assert_clean(&store);
    let (store, report) = again(&store);
    assert_eq!(report.objects, 4000);
    assert_eq!((report.words_damaged, report.words_lost, report.nodes_settled), (0, 0, 0));
    assert_eq!(ids(&store), all);
    assert!(all.iter().all(|&id| store.open(id).is_ok()));
    assert_clean(&store);
}

#[test]
fn a_small_object_ends_at_its_range_and_a_large_one_goes_on() {
    let store = fresh(4 * MIB);
    let small = store.create(&inputs(1), 0).expect("room");
    let large = store.create(&large(2), 0).expect("room");
    let last = (1 << 30) - 4;
    store.write_at(small, last, b"last").expect("in range");
    assert_eq!(store.write_at(small, last, b"beyond"), Err(Error::OutOfRange));
    store.write_at(large, last, b"beyond").expect("in range");
    store.write_at(large, (1 << 39) - 4, b"last").expect("in range");
    assert_eq!(store.write_at(large, (1 << 39) - 4, b"beyond"), Err(Error::OutOfRange));
    assert_clean(&store);
    let (store, _) = again(&store);
    let mut bytes = [0; 4];
    store.read_at(large, (1 << 39) - 4, &mut bytes).expect("there");
    assert_eq!(&bytes, b"last");
    assert_clean(&store);
}

#[test]
fn a_full_store_refuses_and_can_be_emptied() {
    let store = fresh(4 * MIB);
    let id = store.create(&inputs(0), 0).expect("room");
    let root = store.extend(id, 2000).expect("room");
    assert_eq!(Tree::new(store.frames(), root).populate(2..2000), Err(Error::OutOfFrames));
    assert_eq!(store.create(&inputs(1), 0), Err(Error::OutOfFrames));
    assert_clean(&store);
    let freed =
        Tree::new(store.frames(), root).discard(3..2000, &mut Unmapped).expect("the reserve suffices");
    assert!(freed > 800, "{freed}");
    assert!(store.create(&inputs(1), 0).is_ok());
    assert_clean(&store);
}

#[test]
fn a_type_is_given_once() {
    let store = fresh(4 * MIB);
    let id = store.create(&inputs(1), 0).expect("room");
    store.set_type(id, 0, 5, &mut Unmapped).expect("untyped");
    store.set_type(id, 0, 5, &mut Unmapped).expect("the same");
    assert_eq!(store.set_type(id, 0, 6, &mut Unmapped), Err(Error::WrongType));
    store.set_type(id, 5, 6, &mut Unmapped).expect("what it was");
    store.set_type(id, 6, 5, &mut Unmapped).expect("what it was");
    let (store, _) = again(&store);
    assert_eq!(store.open(id).expect("verifies").metadata.fingerprint, 5);
    assert_clean(&store);
}

#[test]
fn null_page_and_metadata_are_out_of_reach() {
    let store = fresh(4 * MIB);
    let id = store.create(&inputs(1), 0).expect("room");
    assert_eq!(store.write_at(id, 0x1000, b"x"), Err(Error::Forbidden));
    assert_eq!(store.read_at(id, 0, &mut [0]), Err(Error::Forbidden));
    let tree = Tree::new(store.frames(), store.root(id).expect("there"));
    assert_eq!(tree.discard(1..3, &mut Unmapped), Err(Error::Forbidden));
    assert_eq!(store.write_at(id, u64::MAX - 2, b"abc"), Err(Error::OutOfRange));
}

#[test]
fn shutting_down_is_noticed_and_reading_changes_nothing() {
    let store = fresh(4 * MIB);
    let id = store.create(&inputs(1), 0).expect("room");
    store.shutdown().expect("writable");
    let bytes = image(&store);
    let (reader, report) = TestStore::mount(from_image(&bytes), &READ).expect("a store");
    assert!(report.clean);
    assert_eq!(report.boots, 1);
    assert_eq!(reader.write_at(id, 0x3000, b"x"), Err(Error::ReadOnly));
    assert_eq!(reader.create(&inputs(2), 0), Err(Error::ReadOnly));
    assert!(reader.open(id).is_ok());
    assert_clean(&reader);
    assert_eq!(image(&reader), bytes);
    let (store, report) = mount(from_image(&bytes));
    assert!(report.clean);
    let (_, report) = again(&store);
    assert!(!report.clean);
    assert_eq!(report.boots, 3);
}

#[test]
fn another_machine_has_the_region_elsewhere() {
    let store = fresh(16 * MIB);
    let id = store.create(&inputs(1), 0).expect("room");
    let root = store.extend(id, 2000).expect("room");
    Tree::new(store.frames(), root).populate(1024..1536).expect("room");
    store.write_at(id, 1100 * 4096, b"moved").expect("room");
    let media = from_image(&image(&store));
    let elsewhere = BASE + 7 * 512 * 4096;
    let read = MountOptions { base: Some(elsewhere), ..READ };
    let needs = MountError::NeedsRelocation { recorded: BASE, base: elsewhere };
    assert_eq!(TestStore::mount(from_image(&image(&store)), &read).expect_err("elsewhere"), needs);
    for base in [BASE + 4096, 1 << 52, u64::MAX] {
        let wrong = MountOptions { base: Some(base), ..WRITE };
        let refused = TestStore::mount(from_image(&image(&store)), &wrong).expect_err("no such place");
        assert_eq!(refused, MountError::BadBase { base });
    }
    let write = MountOptions { access: Access::ReadWrite, base: Some(elsewhere) };
    let (store, report) = TestStore::mount(media, &write).expect("a store");
    assert!(report.relocated && report.quarantine.is_empty());
    assert_eq!(store.base(), elsewhere);
    let mut bytes = [0; 5];
    store.read_at(id, 1100 * 4096, &mut bytes).expect("there");
    assert_eq!(&bytes, b"moved");
    store.write_at(id, 1000 * 4096, b"more").expect("room");
    assert_clean(&store);
    let (store, report) = again(&store);
    assert!(!report.relocated);
    assert_eq!(store.base(), elsewhere);
    assert_clean(&store);
}
