//! Bytes that may be anything: a clear error, or the damaged object apart and every other one whole. Never a panic.

mod common;

use common::*;
use proptest::prelude::*;
use twizzler_abi::ObjId;
use twizzler_store::{Batch, MountError, Tree, Unmapped};

const OBJECTS: u128 = 90;

/// Enough objects for two buckets, with trees of each height and a 2 MiB leaf.
fn busy() -> TestStore {
    let store = fresh(6 * MIB);
    for number in 0..OBJECTS {
        let id = store.create(&large(number), 0).expect("room");
        store.write_at(id, 0x3000, &number.to_le_bytes()).expect("room");
        match number {
            3 => store.write_at(id, 600 << 12, &[3; 5000]).expect("room"),
            4 => store.write_at(id, 1 << 31, &[4; 5000]).expect("room"),
            5 => {
                let root = store.extend(id, 1023).expect("room");
                Tree::new(store.frames(), root).populate(512..1024).expect("room");
            }
            _ => {}
        }
    }
    store
}

fn expect_all(store: &TestStore) {
    for number in 0..OBJECTS {
        assert!(is_whole(store, number), "object {number}");
    }
}

fn is_whole(store: &TestStore, number: u128) -> bool {
    let id = ObjId::derive(&large(number));
    let mut bytes = [0; 16];
    store.open(id).is_ok() && store.read_at(id, 0x3000, &mut bytes).is_ok() && bytes == number.to_le_bytes()
}

/// Mounts and uses what can be used. Returns the objects that are not whole, if it mounts.
fn survivors(bytes: &[u8]) -> Result<Vec<u128>, MountError> {
    let (store, report) = TestStore::mount(from_image(bytes), &WRITE)?;
    assert!(!report.to_string_for_test().is_empty());
    let lost = (0..OBJECTS).filter(|&number| !is_whole(&store, number)).collect();
    store.check().expect("heap");
    for id in ids(&store) {
        let _ = store.stat(id);
        let _ = store.set_type(id, 0, 9, &mut Unmapped);
        if let Ok(root) = store.extend(id, 700) {
            let _ = Tree::new(store.frames(), root).fill(650, Batch::Line);
            let _ = Tree::new(store.frames(), root).discard(2..5, &mut Unmapped);
        }
    }
    let _ = store.create(&inputs(7777), 0);
    for id in ids(&store) {
        let _ = store.delete(id, &mut Unmapped);
    }
    Ok(lost)
}

trait ForTest {
    fn to_string_for_test(&self) -> String;
}

impl ForTest for twizzler_store::MountReport {
    fn to_string_for_test(&self) -> String {
        format!("{self:?}")
    }
}

/// Bytes of what the store itself and the trees are made of.
fn structure(store: &TestStore) -> Vec<u64> {
    let bytes = image(store);
    let is_structure = |frame: &u64| {
        let at = *frame as usize * 4096;
        let frame = &bytes[at..at + 4096];
        frame.iter().any(|&byte| byte != 0)
    };
    (0..bytes.len() as u64 / 4096).filter(is_structure).collect()
}

#[test]
fn every_flipped_bit_of_the_first_frames_costs_one_object_at_most() {
    let store = busy();
    expect_all(&store);
    let bytes = image(&store);
    // Superblock, state, first node, and the buckets.
    let buckets = (0..bytes.len() / 4096).filter(|frame| bytes[frame * 4096..].starts_with(b"TWZBUCKT"));
    let frames: Vec<usize> = [0, 1, 256].into_iter().chain(buckets).collect();
    assert!(frames.len() > 4);
    for frame in frames {
        // A stride that meets every byte of an entry and every bit: some hundreds of mounts.
        for at in (frame * 4096..(frame + 1) * 4096).step_by(67) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            let lost = survivors(&bad).unwrap_or_else(|error| panic!("byte {at:#x}: {error}"));
            assert!(lost.len() <= 1, "byte {at:#x}: lost {lost:?}");
        }
    }
}

#[test]
fn what_is_not_a_store_is_told_apart() {
    let mounted =
        |bytes: &[u8]| TestStore::mount(from_image(bytes), &WRITE).map(|_| ()).expect_err("no store");
    assert_eq!(mounted(&vec![0; 4 << 20]), MountError::Unformatted);
    assert_eq!(mounted(&vec![7; 4 << 20]), MountError::NotOurs { magic: 0x0707_0707_0707_0707 });
    let mut late = vec![0; 4 << 20];
    late[70_000] = 1;
    assert_eq!(mounted(&late), MountError::NotOurs { magic: 0 });
    assert_eq!(mounted(&[0; 4096]), MountError::TooSmall { len_bytes: 4096 });
    let good = image(&busy());
    let truncated = MountError::Truncated { len_bytes: 4 << 20, expected_bytes: 6 << 20 };
    assert_eq!(mounted(&good[..4 << 20]), truncated);
    for error in [truncated, mounted(&late)] {
        assert!(error.to_string().len() > 40);
    }
}

#[test]
fn versions_and_features_are_checked_before_anything_else() {
    let good = image(&fresh(4 * MIB));
    let with = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = good.clone();
        for at in [0, 256 * 4096] {
            change(&mut bytes[at..at + 256]);
            let sum = crc32fast::hash(&bytes[at..at + 252]);
            bytes[at + 252..at + 256].copy_from_slice(&sum.to_le_bytes());
        }
        TestStore::mount(from_image(&bytes), &WRITE).map(|_| ()).expect_err("refused")
    };
    assert_eq!(with(&|b| b[8] = 2), MountError::Version { found: 2 });
    assert_eq!(with(&|b| b[12] = 0xb7), MountError::Arch { found: 0x86b7 });
    assert_eq!(with(&|b| b[20] = 1), MountError::Features { incompat: 1, ro_compat: 0 });
    assert_eq!(with(&|b| b[24] = 4), MountError::Features { incompat: 0, ro_compat: 4 });
    assert_eq!(with(&|b| b[64] = 2), MountError::SeveralRegions);
}

#[test]
fn either_superblock_will_do_and_both_are_whole_after_a_mount() {
    let good = image(&busy());
    for frame in [0, 256] {
        let mut bad = good.clone();
        bad[frame * 4096..(frame + 1) * 4096].fill(0xa5);
        let (store, report) = mount(from_image(&bad));
        assert!(report.superblock_repaired);
        expect_all(&store);
        assert_clean(&store);
        assert!(!again(&store).1.superblock_repaired);
    }
    let mut bad = good;
    bad[8] ^= 1;
    bad[256 * 4096 + 9] ^= 1;
    let error = TestStore::mount(from_image(&bad), &WRITE).expect_err("none is left");
    assert_eq!(error, MountError::SuperblockDamaged);
}

#[test]
fn a_frame_that_two_objects_claim_puts_both_apart() {
    let store = busy();
    let bytes = image(&store);
    let frame_of = |number: u128| {
        let root = store.root(ObjId::derive(&large(number))).expect("there");
        (root.frame().physical() - BASE) as usize
    };
    let mut bad = bytes.clone();
    let (one, two) = (frame_of(10), frame_of(11));
    // The page at the base, entry 3, of the one in the other's table: its check code is the same there.
    bad.copy_within(one + 24..one + 32, two + 24);
    assert_eq!(survivors(&bad), Ok(vec![10, 11]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn changed_bytes_never_panic_and_cost_only_what_they_hit(
        places in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4096, 1u8..), 1..6),
    ) {
        let store = busy();
        let frames = structure(&store);
        let mut bad = image(&store);
        for (frame, within, change) in &places {
            bad[*frame.get(&frames) as usize * 4096 + within] ^= change;
        }
        if let Ok(lost) = survivors(&bad) {
            // A change of eight bits passes one of 128 check codes and may then hit one more object.
            prop_assert!(lost.len() <= 2 * places.len(), "lost {lost:?} to {places:?}");
        } else {
            prop_assert!(places.len() > 1);
        }
    }

    #[test]
    fn overwritten_lines_never_panic(
        places in prop::collection::vec((any::<prop::sample::Index>(), 0usize..64, any::<u64>()), 1..40),
    ) {
        let store = busy();
        let frames = structure(&store);
        let mut bad = image(&store);
        for (frame, line, value) in &places {
            let at = *frame.get(&frames) as usize * 4096 + line * 64;
            for word in 0..8 {
                bad[at + word * 8..][..8].copy_from_slice(&value.rotate_left(word as u32 * 7).to_le_bytes());
            }
        }
        let _ = survivors(&bad);
    }
}
