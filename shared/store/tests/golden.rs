//! An image made by the first version of the format. Every later version must open it.
//!
//! `golden/v1.txt` holds the lines that are not zero: offset and bytes in hexadecimal. It was written by this file's ignored
//! test, and is never written again: a format that changes gets a further image, and a version that can't mount this one
//! says so by [`twizzler_store::MountError::Version`] in a test that replaces these.

mod common;

use std::fmt::Write;

use common::*;
use twizzler_abi::ObjId;
use twizzler_store::{Batch, Found, Tree};

const LEN_BYTES: usize = 6 << 20;
const OBJECTS: u128 = 80;
const GOLDEN: &str = include_str!("golden/v1.txt");

fn golden() -> Vec<u8> {
    let mut bytes = vec![0; LEN_BYTES];
    for line in GOLDEN.lines() {
        let (at, hex) = line.split_once(' ').expect("offset and bytes");
        let at = usize::from_str_radix(at, 16).expect("hexadecimal");
        for (byte, digits) in bytes[at..at + 64].iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("ASCII");
            *byte = u8::from_str_radix(digits, 16).expect("hexadecimal");
        }
    }
    bytes
}

/// What the golden image holds.
fn make() -> TestStore {
    let store = fresh(LEN_BYTES as u64);
    for number in 0..OBJECTS {
        let id = store.create(&large(number), number as u64).expect("room");
        store.write_at(id, 0x3000, format!("object {number}").as_bytes()).expect("room");
    }
    let id = |number| ObjId::derive(&large(number));
    store.write_at(id(1), 600 << 12, b"two levels").expect("room");
    store.write_at(id(2), 1 << 38, b"three levels").expect("room");
    let root = store.extend(id(3), 2047).expect("room");
    Tree::new(store.frames(), root).populate(1024..1536).expect("room");
    store.write_at(id(3), 1025 << 12, b"in a 2 MiB leaf").expect("room");
    Tree::new(store.frames(), store.root(id(4)).expect("there")).fill(5, Batch::Line).expect("room");
    store.set_names_root(id(5)).expect("writable");
    store
}

#[test]
fn the_first_version_of_the_format_is_read() {
    let (store, report) = mount(from_image(&golden()));
    assert_eq!((report.objects, report.boots, report.clean), (OBJECTS as u64, 2, false));
    assert!(report.quarantine.is_empty());
    assert_eq!((report.words_damaged, report.words_lost, report.superblock_repaired), (0, 0, false));
    assert_clean(&store);
    let id = |number| ObjId::derive(&large(number));
    let holds = |number, at, text: &str| {
        let mut bytes = vec![0; text.len()];
        store.read_at(id(number), at, &mut bytes).expect("there");
        assert_eq!(bytes, text.as_bytes());
    };
    for number in 0..OBJECTS {
        holds(number, 0x3000, &format!("object {number}"));
        assert_eq!(store.open(id(number)).expect("verifies").metadata.fingerprint, number as u64);
    }
    holds(1, 600 << 12, "two levels");
    holds(2, 1 << 38, "three levels");
    holds(3, 1025 << 12, "in a 2 MiB leaf");
    let found = Tree::new(store.frames(), store.root(id(3)).expect("there")).lookup(1025);
    assert!(matches!(found, Ok(Found::Page(_, twizzler_store::entry::Level::Two, ..))), "{found:?}");
    assert_eq!(store.stat(id(4)).expect("there").usage.pages, 7);
    assert_eq!(store.names_root(), id(5));
    assert_eq!(store.uuid(), FORMAT.uuid);
}

#[test]
fn the_first_version_of_the_format_is_still_written() {
    // Where this fails alone, frames are merely chosen otherwise: see whether the image still mounts, and remove it.
    assert!(image(&make()) == golden(), "the bytes of a new store differ from the golden image");
}

#[test]
#[ignore = "writes the golden image: once for each version of the format"]
fn write_the_golden_image() {
    let mut text = String::new();
    for (number, line) in image(&make()).chunks(64).enumerate() {
        if line.iter().any(|&byte| byte != 0) {
            write!(text, "{:x} ", number * 64).expect("memory");
            line.iter().for_each(|byte| write!(text, "{byte:02x}").expect("memory"));
            text.push('\n');
        }
    }
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1.txt"), text).expect("writable");
}
