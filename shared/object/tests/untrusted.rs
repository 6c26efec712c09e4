//! What a hostile mapper can do to those who know that it may be one: nothing but wrong values.

use std::sync::atomic::{AtomicBool, Ordering};

use twizzler_abi::object::BASE_OFFSET;
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::{InvBytes, InvPtr, InvSpan, OpenError, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.request", version = 1)]
#[repr(C)]
struct Request {
    next: InvPtr<Request>,
    text: InvBytes,
    numbers: InvSpan<u32>,
    parts: [InvPtr<u64>; 2],
    amount: u64,
}

/// A list of three in one object; the last leads to another object's.
fn prepared(backend: &MemoryBackend) -> ObjId {
    let space = Space::attach(backend).expect("attached");
    let made = space.transact(|tx| {
        let [first, foreign] = [tx.create::<Request>()?.base(), tx.create::<Request>()?.base()];
        let mut last = first;
        for amount in 1..3 {
            let request = tx.alloc::<Request>(first.object())?;
            tx.set(request.at(Request::amount), amount)?;
            tx.link(last.at(Request::next), Some(request))?;
            last = request;
        }
        tx.link(last.at(Request::next), Some(foreign))?;
        let text = tx.alloc_bytes(first.object(), b"text")?;
        tx.link_span(first.at(Request::text), text)?;
        Ok::<_, Error>(space.id_of(first.object()))
    });
    made.expect("made")
}

fn write(backend: &MemoryBackend, id: ObjId, at: u64, words: &[u64]) {
    for (i, byte) in words.iter().flat_map(|word| word.to_le_bytes()).enumerate() {
        backend.damage(id, BASE_OFFSET + at + i as u64, |_| byte);
    }
}

#[test]
fn copies_are_read_within_bounds() {
    let backend = MemoryBackend::new();
    let id = prepared(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let first = guard.open_untrusted::<Request>(id).expect("opens");
    let seen: Vec<_> =
        first.walk(Request::next, 100).map(|at| at.map(|at| at.get(Request::amount))).collect();
    assert_eq!(
        seen,
        [Ok(0), Ok(1), Ok(2), Err(Error::AccessDenied)],
        "the last pointer leads out of the object"
    );
    assert_eq!(
        first.walk(Request::next, 2).map(|at| at.err()).collect::<Vec<_>>(),
        [None, None, Some(Error::TooLong)]
    );
    assert_eq!(first.read(Request::text, 4).as_deref(), Ok(&b"text"[..]));
    assert_eq!(first.read(Request::text, 3), Err(Error::TooLong));
    assert_eq!(first.read(Request::numbers, 3), Ok(Vec::new()));
    assert_eq!(first.at(Request::amount).copy(), 0);
    assert!(first.at(Request::parts).index(2).is_none());
    let wrong = guard.open_untrusted::<u64>(id).map(drop);
    assert!(matches!(wrong, Err(OpenError::WrongType { .. })));
}

#[test]
fn whatever_lies_there_is_an_answer() {
    let backend = MemoryBackend::new();
    let id = prepared(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let first = guard.open_untrusted::<Request>(id).expect("opens");
    write(&backend, id, 0, &[BASE_OFFSET]);
    let round: Vec<_> = first.walk(Request::next, 50).collect();
    assert_eq!((round.len(), round[50].map(drop)), (51, Err(Error::TooLong)), "a circle ends");
    for (bits, len, answer) in [
        (BASE_OFFSET, u64::MAX, Error::TooLong),
        (BASE_OFFSET, 11, Error::TooLong),
        (BASE_OFFSET + 2, 4, Error::Damaged),
        ((1 << 30) - 8, 4, Error::Damaged),
        (8, 1, Error::Damaged),
        (0, 1, Error::Damaged),
        (1 << 41 | BASE_OFFSET, 1, Error::Damaged),
        (1 << 44 | BASE_OFFSET, 1, Error::AccessDenied),
        (77 << 44 | BASE_OFFSET, 1, Error::AccessDenied),
    ] {
        write(&backend, id, Request::numbers.offset(), &[bits, len]);
        assert_eq!(first.read(Request::numbers, 10), Err(answer), "{bits:#x}, {len}");
    }
}

#[test]
fn a_writer_at_work_spoils_values_alone() {
    let backend = MemoryBackend::new();
    let id = prepared(&backend);
    let space = Space::attach(&backend).expect("attached");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut word = 1u64;
            while !done.load(Ordering::Relaxed) {
                word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7);
                write(&backend, id, 0, &[word >> (word % 64), BASE_OFFSET + word % 64 * 8, word % 32]);
            }
        });
        for _ in 0..2000 {
            let guard = space.enter();
            let first = guard.open_untrusted::<Request>(id).expect("opens");
            assert!(first.walk(Request::next, 20).count() <= 21);
            if let Ok(text) = first.read(Request::text, 16) {
                assert!(text.len() <= 16);
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
