//! The index against a naive one.

mod common;

use common::{Model, Shelf, compare, make, names, open};
use proptest::prelude::*;
use twizzler_image::MemoryBackend;
use twizzler_index::{Failure, Index, Lines, NotUtf8, Refusal};
use twizzler_object::{Access, Space};

const VOCABULARY: [&str; 12] =
    ["a", "ab", "abc", "b", "été", "straße", "x1", "42", "zz", "a1b2c3d4e5f6g7h8", "nowhere", "ω"];

#[derive(Clone, Debug)]
enum Step {
    Add(Vec<(u8, String)>),
    Remove(u8),
    Restart,
}

fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(&VOCABULARY[..]).prop_map(|w| if w == "nowhere" { "" } else { w });
    let gap = prop::sample::select(&[" ", "\n", ", ", "\n\n", "-", "\t—"][..]);
    prop::collection::vec((word, gap, any::<bool>()), 0..40).prop_map(|parts| {
        let case = |w: &str, upper| {
            if upper { w.to_uppercase().replace("STRASSE", "STRAßE") } else { w.to_string() }
        };
        parts.into_iter().map(|(word, gap, upper)| case(word, upper) + gap).collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0u8..9, text()), 1..5).prop_map(Step::Add),
        2 => (0u8..9).prop_map(Step::Remove),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_answer_is_that_of_the_naive_index(steps in prop::collection::vec(step(), 1..25)) {
        let backend = MemoryBackend::new();
        let mut space = Space::attach(&backend).expect("attached");
        let id = make(&space);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Add(texts) => {
                    let texts: std::collections::BTreeMap<String, String> =
                        texts.into_iter().map(|(n, text)| (format!("text{n}"), text)).collect();
                    let shelf = Shelf(texts.iter().map(|(n, t)| (n.clone(), t.clone().into_bytes())).collect());
                    let list: Vec<String> = texts.keys().cloned().collect();
                    let added = open(&space.enter(), id).add(&list, &shelf).expect("added");
                    prop_assert_eq!(added.documents, list.len() as u64);
                    prop_assert_eq!(added.replaced, list.iter().filter(|n| model.0.contains_key(*n)).count() as u64);
                    model.0.extend(texts);
                }
                Step::Remove(n) => {
                    let name = format!("text{n}");
                    let removed = open(&space.enter(), id).remove(&name);
                    let wanted = model.0.remove(&name).map(drop).ok_or(Failure::Document(0, Refusal::NotIndexed));
                    prop_assert_eq!(removed, wanted);
                }
                Step::Restart => {
                    drop(space);
                    space = Space::attach(&backend).expect("attached");
                }
            }
            compare(&open(&space.enter(), id), &model, &VOCABULARY);
        }
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let index = open(&guard, make(&space));
    let mut shelf = Shelf::of(&[("a", "one two"), ("empty", "")]);
    shelf.0.insert("binary".into(), b"one \xff two".to_vec());
    shelf.0.insert("cut".into(), "one é".as_bytes()[..5].to_vec());
    let objects = backend.ids().len();
    let refused = |n, refusal| Err(Failure::Document(n, refusal));
    let missing = index.add(&names(&["a", "nothing"]), &shelf);
    assert_eq!(missing, refused(1, Refusal::NoSuchName));
    let binary = index.add(&names(&["a", "empty", "binary"]), &shelf);
    assert_eq!(binary, refused(2, Refusal::NotUtf8(NotUtf8 { at: 4 })));
    assert_eq!(index.add(&names(&["cut"]), &shelf), refused(0, Refusal::NotUtf8(NotUtf8 { at: 4 })));
    assert_eq!(index.stat().expect("whole").documents, 0);
    assert_eq!(backend.ids().len(), objects, "nothing is left behind");

    let added = index.add(&names(&["a", "empty", "a"]), &shelf).expect("added");
    assert_eq!((added.documents, added.words), (2, 2));
    compare(
        &index,
        &Model([("a".into(), "one two".into()), ("empty".into(), String::new())].into()),
        &["one", "two"],
    );
}

#[test]
fn many_small_additions_stay_few_segments() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let index = open(&guard, make(&space));
    let mut model = Model::default();
    for n in 0..150 {
        let (name, text) = (format!("t{n}"), format!("common n{n} m{}\n{}", n % 7, "word ".repeat(n)));
        index.add(&names(&[&name]), &Shelf::of(&[(&name, &text)])).expect("added");
        model.0.insert(name, text);
    }
    compare(&index, &model, &["common", "word", "n77", "m3", "m9"]);
    let stat = index.stat().expect("whole");
    assert!(stat.segments <= 12, "{stat:?}");
    assert!(backend.ids().len() < 40, "old segments are deleted");
}

#[test]
fn long_texts_go_to_several_objects() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let index = open(&guard, make(&space));
    let mut text = String::new();
    for n in 0..60_000u64 {
        text += &format!("w{} v{}\n", n * 7919 % 10_007, n % 100);
    }
    text += &"x".repeat(5000);
    index.add(&names(&["big"]), &Shelf::of(&[("big", &text)])).expect("added");
    let stat = index.stat().expect("whole");
    assert_eq!((stat.objects, stat.words), (4, 10_007 + 100 + 1), "{stat:?}");
    let model = Model([("big".into(), text)].into());
    compare(&index, &model, &["w5", "v99", "w10006", &"x".repeat(5000)]);
}

/// A flipped bit in the index gives the right answer or an error: nothing wrong, and no panic.
#[test]
fn a_flipped_bit_never_changes_an_answer() {
    let backend = MemoryBackend::new();
    let space = Space::attach(&backend).expect("attached");
    let before = backend.ids();
    let id = make(&space);
    let mut model = Model::default();
    for n in 0..3 {
        let text = if n == 0 { "big ab word é\n".repeat(9000) } else { format!("a{n} ab ab\nb c{n} abc") };
        let name = format!("text{n}");
        open(&space.enter(), id).add(&names(&[&name]), &Shelf::of(&[(&name, &text)])).expect("added");
        model.0.insert(name, text);
    }
    open(&space.enter(), id).add(&names(&["text1"]), &Shelf::of(&[("text1", "again ab")])).expect("added");
    model.0.insert("text1".into(), "again ab".into());
    drop(space);
    let searches = [&["ab"][..], &["ab", "abc"], &["big"]].map(|words| (words, model.search(words)));
    let objects: Vec<_> = backend.ids().into_iter().filter(|id| !before.contains(id)).collect();
    let mut damaged = 0;
    for &object in &objects {
        let pages = backend.pages_of(object);
        // Every byte of the first pages of data, which hold heads, records and small nodes; beyond, some.
        let data: Vec<u64> = pages.iter().copied().filter(|page| *page >= 3).collect();
        for (i, page) in data.iter().enumerate() {
            for at in (0..4096).step_by(if i == 0 { 7 } else { 251 }) {
                let (offset, bit) = (page * 4096 + at, 1 << ((at + page) % 8));
                backend.damage(object, offset, |byte| byte ^ bit);
                let space = Space::attach(&backend).expect("attached");
                let guard = space.enter();
                let index =
                    Index::new(&guard, guard.open(id, Access::Write).expect("the root's metadata is whole"));
                for (words, right) in &searches {
                    let wanted: Vec<Vec<u8>> = words.iter().map(|w| w.as_bytes().to_vec()).collect();
                    match index.search(&wanted, Lines::Wanted) {
                        Ok(hits) => {
                            let hits: Vec<_> =
                                hits.into_iter().map(|hit| (hit.count, hit.name, hit.lines)).collect();
                            assert_eq!(hits, *right, "{object} {offset:#x}");
                        }
                        Err(_) => damaged += 1,
                    }
                }
                if i == 0 {
                    let _ = (index.top(3), index.stat(), index.remove("nothing"));
                }
                drop(guard);
                drop(space);
                backend.damage(object, offset, |byte| byte ^ bit);
            }
        }
    }
    assert!(damaged > 100, "{damaged}");
    let space = Space::attach(&backend).expect("attached");
    compare(&open(&space.enter(), id), &model, &["ab", "abc", "big", "word"]);
}
