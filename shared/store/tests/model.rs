//! Any sequence of operations leaves what a map of byte arrays would hold.

mod common;

use std::collections::BTreeMap;

use common::*;
use proptest::prelude::*;
use twizzler_abi::ObjId;
use twizzler_store::{Batch, Error, Found, Tree, Unmapped};

#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Delete(u8),
    Write(u8, u64, Vec<u8>),
    Fill(u8, u64, bool),
    Populate(u8, u64, u64),
    Discard(u8, u64, u64),
    Type(u8, u64),
    Prepare,
    Remount,
}

/// Pages near each other, over table borders, and far out.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![2u64..20, 500u64..520, 1000u64..1600, (1u64 << 18) - 4..(1 << 18) + 4, Just((1 << 27) - 1)]
}

fn step() -> impl Strategy<Value = Step> {
    let object = 0u8..6;
    prop_oneof![
        3 => object.clone().prop_map(Step::Create),
        1 => object.clone().prop_map(Step::Delete),
        6 => (object.clone(), page(), 0u64..4096, prop::collection::vec(any::<u8>(), 1..6000))
            .prop_map(|(object, page, within, bytes)| Step::Write(object, page * 4096 + within, bytes)),
        2 => (object.clone(), page(), any::<bool>()).prop_map(|(object, page, line)| Step::Fill(object, page, line)),
        2 => (object.clone(), page(), 1u64..700).prop_map(|(object, page, len)| Step::Populate(object, page, len)),
        4 => (object.clone(), page(), 1u64..1200).prop_map(|(object, page, len)| Step::Discard(object, page, len)),
        1 => (object, 1u64..3).prop_map(|(object, fingerprint)| Step::Type(object, fingerprint)),
        1 => Just(Step::Prepare),
        1 => Just(Step::Remount),
    ]
}

#[derive(Default)]
struct Model {
    pages: BTreeMap<u64, Vec<u8>>,
    fingerprint: u64,
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut store = fresh(16 * MIB);
    let empty = store.counts();
    let mut model: BTreeMap<ObjId, Model> = BTreeMap::new();
    let id_of = |object: u8| ObjId::derive(&large(object.into()));
    for step in steps {
        match step {
            Step::Create(object) => match store.create(&large(object.into()), 0) {
                Ok(id) => prop_assert!(model.insert(id, Model::default()).is_none()),
                Err(error) => prop_assert!(error == Error::OutOfFrames || model.contains_key(&id_of(object))),
            },
            Step::Delete(object) => {
                let expected = model.remove(&id_of(object)).map(|_| ()).ok_or(Error::NoSuchObject);
                prop_assert_eq!(store.delete(id_of(object), &mut Unmapped), expected);
            }
            Step::Write(object, offset, bytes) => write(&store, &mut model, id_of(object), offset, &bytes)?,
            Step::Fill(object, page, line) => {
                if model.contains_key(&id_of(object))
                    && let Ok(root) = store.extend(id_of(object), page)
                {
                    let batch = if line { Batch::Line } else { Batch::Page };
                    let filled = Tree::new(store.frames(), root).fill(page, batch);
                    prop_assert!(matches!(filled, Ok(_) | Err(Error::OutOfFrames)));
                }
            }
            Step::Populate(object, page, len) => {
                let end = (page + len).min(1 << 27);
                if model.contains_key(&id_of(object))
                    && let Ok(root) = store.extend(id_of(object), end - 1)
                {
                    let done = Tree::new(store.frames(), root).populate(page..end);
                    prop_assert!(matches!(done, Ok(_) | Err(Error::OutOfFrames)), "{done:?}");
                }
            }
            Step::Discard(object, page, len) => {
                if let Some(own) = model.get_mut(&id_of(object)) {
                    let tree = Tree::new(store.frames(), store.root(id_of(object)).expect("there"));
                    prop_assert!(tree.discard(page..page + len, &mut Unmapped).is_ok());
                    own.pages.retain(|&at, _| at < page || at >= page + len);
                }
            }
            Step::Type(object, fingerprint) => {
                let done = store.set_type(id_of(object), 0, fingerprint, &mut Unmapped);
                match model.get_mut(&id_of(object)) {
                    None => prop_assert_eq!(done, Err(Error::NoSuchObject)),
                    Some(own) if own.fingerprint == 0 => match done {
                        Ok(()) => own.fingerprint = fingerprint,
                        other => prop_assert_eq!(other, Err(Error::OutOfFrames)),
                    },
                    Some(own) => prop_assert_eq!(done.is_ok(), own.fingerprint == fingerprint),
                }
            }
            Step::Prepare => drop(store.prepare(5)),
            Step::Remount => {
                let (mounted, report) = again(&store);
                prop_assert_eq!((report.objects, report.quarantine.len()), (model.len() as u64, 0));
                prop_assert_eq!(mounted.counts(), store.counts());
                store = mounted;
            }
        }
    }
    compare(&store, &model)?;
    compare(&again(&store).0, &model)?;
    for &id in model.keys() {
        prop_assert_eq!(store.delete(id, &mut Unmapped), Ok(()));
    }
    prop_assert_eq!(store.counts(), empty);
    Ok(())
}

fn write(
    store: &TestStore,
    model: &mut BTreeMap<ObjId, Model>,
    id: ObjId,
    offset: u64,
    bytes: &[u8],
) -> Result<(), TestCaseError> {
    let Some(own) = model.get_mut(&id) else {
        prop_assert_eq!(store.write_at(id, offset, bytes), Err(Error::NoSuchObject));
        return Ok(());
    };
    match store.write_at(id, offset, bytes) {
        Ok(()) => {
            for (at, &byte) in (offset..).zip(bytes) {
                own.pages.entry(at / 4096).or_insert_with(|| vec![0; 4096])[at as usize % 4096] = byte;
            }
        }
        Err(Error::OutOfFrames) => {
            // As far as it got: take over what is there.
            for page in offset / 4096..=(offset + bytes.len() as u64) / 4096 {
                let mut there = vec![0; 4096];
                if store.read_at(id, page * 4096, &mut there).is_ok() && there.iter().any(|&byte| byte != 0) {
                    own.pages.insert(page, there);
                }
            }
        }
        other => prop_assert_eq!(other, Err(Error::OutOfRange)),
    }
    Ok(())
}

fn compare(store: &TestStore, model: &BTreeMap<ObjId, Model>) -> Result<(), TestCaseError> {
    let report = store.check().expect("heap");
    prop_assert!(report.is_clean(), "{:?}", report.findings);
    prop_assert!(ids(store).into_iter().eq(model.keys().copied()));
    for (&id, own) in model {
        let opened = store.open(id).expect("verifies");
        prop_assert_eq!(opened.metadata.fingerprint, own.fingerprint);
        let tree = Tree::new(store.frames(), opened.root);
        for page in (2..1700).chain((1 << 18) - 4..(1 << 18) + 700).chain([(1 << 27) - 1]) {
            let mut bytes = vec![1; 4096];
            tree.read(page * 4096, &mut bytes).expect("there");
            let expected = own.pages.get(&page);
            let found = tree.lookup(page);
            prop_assert!(
                expected.is_none() || matches!(found, Ok(Found::Page(..))),
                "page {page}: {found:?}"
            );
            let same =
                expected.map_or_else(|| bytes.iter().all(|&byte| byte == 0), |expected| *expected == bytes);
            prop_assert!(same, "object {id} page {page}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_store_agrees_with_a_map(steps in prop::collection::vec(step(), 1..40)) {
        run(steps)?;
    }
}
