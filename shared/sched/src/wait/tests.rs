//! The table against a naive model.

extern crate std;
use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const THREADS: u32 = 8;

fn key(number: u64) -> WordKey {
    WordKey { object: ObjId::new(u128::from(number / 3) + 1), offset: number % 3 * 8 }
}

fn table() -> WaitTable {
    let mut table = WaitTable::new();
    for number in 0..THREADS {
        table.admit(ThreadNo(number)).unwrap();
    }
    table
}

/// A waiting thread: its words in the order of registration, with when it registered.
struct ModelWait {
    thread: ThreadNo,
    words: Vec<u64>,
    deadline: Option<u64>,
}

#[test]
fn the_longest_waiting_is_woken_first_and_told_which_word() {
    let mut table = table();
    table.begin(ThreadNo(3), [(0, key(1)), (1, key(2))].into_iter(), None).unwrap();
    table.begin(ThreadNo(1), [(0, key(2))].into_iter(), None).unwrap();
    assert_eq!(table.wake_one(key(2)), Some(ThreadNo(3)));
    assert_eq!(table.take_outcome(ThreadNo(3)), Some(Outcome::Woken(1)));
    assert_eq!(table.wake_one(key(1)), None, "the other word is forgotten");
    assert_eq!(table.wake_one(key(2)), Some(ThreadNo(1)));
    assert_eq!(table.wake_one(key(2)), None);
}

#[test]
fn a_cancelled_wait_takes_no_wake() {
    let mut table = table();
    table.begin(ThreadNo(0), [(0, key(0))].into_iter(), Some(5)).unwrap();
    assert!(table.cancel(ThreadNo(0)));
    assert!(!table.cancel(ThreadNo(0)));
    assert_eq!(table.wake_one(key(0)), None);
    assert_eq!(table.next_deadline(), None);
    assert_eq!(table.take_outcome(ThreadNo(0)), None);
}

proptest! {
    #[test]
    fn agrees_with_a_list_of_waits(
        steps in proptest::collection::vec(
            (0u8..4, 0..THREADS, proptest::collection::vec(0u64..9, 0..5), proptest::option::of(0u64..40)), 0..200),
    ) {
        let mut table = table();
        let mut model: Vec<ModelWait> = Vec::new();
        for (now, (what, thread, words, deadline)) in (0u64..).zip(steps) {
            let thread = ThreadNo(thread);
            let place = model.iter().position(|wait| wait.thread == thread);
            prop_assert_eq!(table.is_waiting(thread), place.is_some());
            match what {
                0 | 1 if place.is_none() => {
                    let numbered = (0u32..).zip(words.iter().map(|&word| key(word)));
                    table.begin(thread, numbered, deadline).unwrap();
                    model.push(ModelWait { thread, words, deadline });
                }
                1 => {
                    prop_assert_eq!(table.cancel(thread), place.is_some());
                    if let Some(place) = place { model.remove(place); }
                }
                2 => if let Some(&word) = words.first() {
                    let expected = model.iter().position(|wait| wait.words.contains(&word));
                    let woken = table.wake_one(key(word));
                    prop_assert_eq!(woken, expected.map(|place| model[place].thread));
                    if let Some(place) = expected {
                        let wait = model.remove(place);
                        let first = wait.words.iter().position(|&w| w == word).unwrap();
                        prop_assert_eq!(table.take_outcome(wait.thread), Some(Outcome::Woken(first as u32)));
                    }
                }
                _ => while let Some(expired) = table.expire_one(now) {
                    let place = model.iter().position(|wait| wait.thread == expired).unwrap();
                    let wait = model.remove(place);
                    prop_assert!(wait.deadline.is_some_and(|at| at <= now));
                    prop_assert_eq!(table.take_outcome(expired), Some(Outcome::TimedOut));
                }
            }
            prop_assert_eq!(table.next_deadline(), model.iter().filter_map(|wait| wait.deadline).min());
        }
        // Freed nodes are used again: never more than all threads with all words.
        prop_assert!(table.nodes.len() <= THREADS as usize * 5);
    }
}
