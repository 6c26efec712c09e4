//! Exactly how many lines are flushed and how many fences are waited for. A change here is a change of what
//! durability costs: to be argued, not adjusted.

mod common;

use common::*;
use twizzler_crashsim::counted::Costs;
use twizzler_store::{Batch, Tree, Unmapped};

/// Flushed lines and fences with frames zeroed ahead.
fn cost<R>(store: &TestStore, run: impl FnOnce() -> R) -> (u64, u64) {
    while store.prepare(64) != 0 {}
    let (Costs { flushes, fences, .. }, _) = costs_of(store, run);
    (flushes, fences)
}

fn store() -> TestStore {
    fresh(16 * MIB)
}

#[test]
fn create_flushes_five_lines_and_fences_twice() {
    // Metadata 2, table 1, entry's body 1, commit word 1.
    let store = store();
    assert_eq!(cost(&store, || store.create(&inputs(1), 0).expect("room")), (5, 2));
}

#[test]
fn delete_flushes_one_line_and_fences_once() {
    let store = store();
    let id = store.create(&inputs(1), 0).expect("room");
    store.write_at(id, 0x5000, &[1; 9000]).expect("room");
    assert_eq!(cost(&store, || store.delete(id, &mut Unmapped)), (1, 1));
}

#[test]
fn a_fill_flushes_one_line_and_fences_once_alone_and_for_eight() {
    let store = store();
    let id = store.create(&inputs(1), 0).expect("room");
    let root = store.extend(id, 500).expect("room");
    let tree = Tree::new(store.frames(), root);
    assert_eq!(cost(&store, || assert_eq!(tree.fill(100, Batch::Page).expect("room").pages, 1)), (1, 1));
    assert_eq!(cost(&store, || assert_eq!(tree.fill(100, Batch::Page).expect("room").pages, 0)), (0, 0));
    assert_eq!(cost(&store, || assert_eq!(tree.fill(203, Batch::Line).expect("room").pages, 8)), (1, 1));
    assert_eq!(cost(&store, || assert_eq!(tree.fill(103, Batch::Line).expect("room").pages, 7)), (1, 1));
}

#[test]
fn a_fill_that_needs_tables_still_fences_once() {
    let store = store();
    let id = store.create(&large(1), 0).expect("room");
    let root = store.extend(id, 1 << 26).expect("room");
    let tree = Tree::new(store.frames(), root);
    // Leaf, page table, page directory: one line each.
    assert_eq!(cost(&store, || assert_eq!(tree.fill(1 << 25, Batch::Line).expect("room").pages, 8)), (3, 1));
    assert_eq!(cost(&store, || tree.fill((1 << 25) + 512, Batch::Page).expect("room")), (2, 1));
}

#[test]
fn without_frames_ahead_eight_are_zeroed_for_one_more_fence() {
    let store = store();
    let id = store.create(&inputs(1), 0).expect("room");
    let root = store.extend(id, 500).expect("room");
    let tree = Tree::new(store.frames(), root);
    // The create took two of eight.
    (20..26).for_each(|page| assert_eq!(tree.fill(page, Batch::Page).expect("room").pages, 1));
    let (costs, _) = costs_of(&store, || tree.fill(300, Batch::Page).expect("room"));
    assert_eq!((costs.flushes, costs.fences), (8 * 64 + 1, 2));
}

#[test]
fn populating_512_pages_shares_fences() {
    let store = store();
    let id = store.create(&inputs(1), 0).expect("room");
    let root = store.extend(id, 4000).expect("room");
    let tree = Tree::new(store.frames(), root);
    // One 2 MiB leaf: all its lines, a fence, its entry, a fence.
    let whole = cost(&store, || assert_eq!(tree.populate(512..1024), Ok(512)));
    assert_eq!(whole, (32768 + 1, 2));
    // Single frames: the table's entry; 511 frames less the 63 ahead; 64 lines of entries. Fences: one for the table's
    // entry, one each for 64 entries, and for zeroing each time but the first, which takes what is ahead.
    let single = cost(&store, || {
        assert_eq!(tree.populate(1025..1536), Ok(511));
    });
    assert_eq!(single.0, 1 + 64 + (511 - 63) * 64);
    assert_eq!(single.1, 1 + 8 + 7);
}

#[test]
fn growing_flushes_a_line_for_each_level_and_the_commit_word() {
    let store = store();
    let id = store.create(&large(1), 0).expect("room");
    assert_eq!(cost(&store, || store.extend(id, 300)), (1, 1), "the bound alone");
    assert_eq!(cost(&store, || store.extend(id, 600)), (2, 2));
    let two = store.create(&large(2), 0).expect("room");
    assert_eq!(cost(&store, || store.extend(two, 1 << 20)), (3, 2));
}

#[test]
fn discarding_flushes_what_it_overwrites_and_fences_once_for_64() {
    let store = store();
    let id = store.create(&inputs(1), 0).expect("room");
    let root = store.extend(id, 4000).expect("room");
    let tree = Tree::new(store.frames(), root);
    tree.populate(8..2048).expect("room");
    assert_eq!(cost(&store, || assert_eq!(tree.discard(16..17, &mut Unmapped), Ok(1))), (1, 1));
    assert_eq!(cost(&store, || assert_eq!(tree.discard(64..128, &mut Unmapped), Ok(64))), (8, 1));
    assert_eq!(
        cost(&store, || assert_eq!(tree.discard(1024..1536, &mut Unmapped), Ok(512))),
        (1, 1),
        "a 2 MiB leaf"
    );
    // A 2 MiB leaf is split first: its table's 64 lines, a fence, its entry, a fence.
    assert_eq!(cost(&store, || assert_eq!(tree.discard(512..520, &mut Unmapped), Ok(8))), (64 + 1 + 1, 3));
    // A whole table goes by one store.
    assert_eq!(cost(&store, || assert_eq!(tree.discard(512..1024, &mut Unmapped), Ok(504))), (1, 1));
    assert_clean(&store);
}

#[test]
fn a_type_costs_a_page_of_metadata_and_two_fences() {
    let store = store();
    let id = store.create(&inputs(1), 0).expect("room");
    // Metadata 2, the entry 1.
    assert_eq!(cost(&store, || store.set_type(id, 0, 1, &mut Unmapped)), (3, 2));
}

#[test]
fn mounting_an_almost_empty_store_writes_its_state_alone() {
    let store = fresh(64 * MIB);
    for i in 0..10 {
        store.create(&inputs(i), 0).expect("room");
    }
    let (store, _) = again(&store);
    // Both copies: words 2, commit 1.
    let costs = store.media().costs();
    assert_eq!((costs.flushes, costs.fences), (2 * 3, 2 * 2));
}
