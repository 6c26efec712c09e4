//! Image files as people use them.

use std::fs::File;
use std::path::Path;

use tempfile::TempDir;
use twizzler_image::{Image, ImageError};
use twizzler_names::NameError;

fn blank(len_bytes: u64) -> (TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("nvm.img");
    File::create(&path).and_then(|file| file.set_len(len_bytes)).expect("an empty file");
    (directory, path)
}

fn put(path: &Path, name: &str, content: &[u8]) -> Result<u64, ImageError> {
    Image::open(path)?.put(name, &mut &content[..])
}

fn get(path: &Path, name: &str) -> Result<Vec<u8>, ImageError> {
    let mut content = Vec::new();
    Image::open(path)?.get(name, &mut content)?;
    Ok(content)
}

fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn files_come_out_as_they_went_in() {
    let (_directory, path) = blank(64 << 20);
    let large = noise(5 << 20 | 123, 1);
    put(&path, "large", &large).expect("put");
    put(&path, "texts/small", b"abc").expect("put");
    put(&path, "texts/empty", b"").expect("put");
    assert_eq!(get(&path, "large").expect("get"), large);
    assert_eq!(get(&path, "/texts/small").expect("get"), b"abc");
    assert_eq!(get(&path, "texts/empty").expect("get"), b"");
    let image = Image::open(&path).expect("open");
    let listed: Vec<_> = image.list().expect("list").into_iter().map(|l| (l.path, l.len_bytes)).collect();
    let len = large.len() as u64;
    let expected = [("large", len), ("texts", 0), ("texts/empty", 0), ("texts/small", 3)];
    assert!(listed.iter().map(|(path, len)| (path.as_str(), *len)).eq(expected), "{listed:?}");
    assert!(image.check().expect("check").is_clean());
    image.close().expect("close");
}

#[test]
fn putting_again_replaces_and_gives_the_room_back() {
    let (_directory, path) = blank(32 << 20);
    for round in 0..8 {
        let content = noise(10 << 20, round);
        put(&path, "file", &content).expect("put");
        assert_eq!(get(&path, "file").expect("get"), content);
    }
    let image = Image::open(&path).expect("open");
    assert_eq!(image.list().expect("list").len(), 1);
    assert!(image.check().expect("check").is_clean());
}

#[test]
fn what_does_not_fit_leaves_no_trace() {
    let (_directory, path) = blank(16 << 20);
    put(&path, "kept", b"abc").expect("put");
    let free = |path: &Path| Image::open(path).expect("open").report().counts.free;
    let put_large = || {
        let error = put(&path, "d/large", &noise(40 << 20, 1)).expect_err("too large");
        assert_eq!(error.to_string(), "out of NVM");
    };
    // The names may have got a page, which their next change uses.
    let before = free(&path);
    put_large();
    let once = free(&path);
    assert!(before - once <= 1, "{before} to {once}");
    put_large();
    assert_eq!(free(&path), once);
    assert_eq!(get(&path, "kept").expect("get"), b"abc");
    assert!(matches!(get(&path, "d/large"), Err(ImageError::Name(NameError::NoSuchName))));
    assert!(Image::open(&path).expect("open").check().expect("check").is_clean());
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let (_directory, path) = blank(0);
    assert!(matches!(Image::open(&path), Err(ImageError::Io(_))));
    let text = noise(4 << 20, 7);
    std::fs::write(&path, &text).expect("written");
    assert!(matches!(Image::open(&path), Err(ImageError::Mount(_))));
    assert_eq!(std::fs::read(&path).expect("read"), text);
}

#[test]
fn names_that_make_no_sense_are_errors() {
    let (_directory, path) = blank(16 << 20);
    for name in ["", "/", "a//b", "..", "a\nb"] {
        assert!(matches!(put(&path, name, b"x"), Err(ImageError::Name(_))), "{name:?}");
    }
    put(&path, "a", b"x").expect("put");
    assert!(matches!(put(&path, "a/b", b"x"), Err(ImageError::Name(NameError::NotADirectory))));
    put(&path, "d/b", b"x").expect("put");
    assert!(matches!(put(&path, "d", b"x"), Err(ImageError::Name(NameError::IsADirectory))));
    assert!(matches!(get(&path, "d"), Err(ImageError::Name(NameError::IsADirectory))));
}
