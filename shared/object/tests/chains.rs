//! Lists, logs, queues, texts and owning pointers.

use std::collections::VecDeque;

use proptest::prelude::*;
use twizzler_abi::address::PAGE_BYTES;
use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::object::{BASE_OFFSET, HEADER_OFFSET};
use twizzler_abi::{Error, ObjId};
use twizzler_image::MemoryBackend;
use twizzler_object::collections::{
    InvBox, InvRc, InvWeak, List, ListRoot, Log, LogRoot, Queue, QueueRoot, Text, TextRoot,
};
use twizzler_object::{Access, Backend, Guard, Object, Ptr, Reader, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.chains-root", version = 1)]
#[repr(C)]
struct Root {
    list: ListRoot<u64>,
    log: LogRoot,
    queue: QueueRoot<u64>,
    text: TextRoot,
    tree: InvBox<Tree>,
    other: InvBox<Tree>,
    shared: [InvRc<u64>; 3],
    weak: InvWeak<u64>,
}

#[derive(Stored)]
#[stored(name = "test.chains-tree", version = 1)]
#[repr(C)]
struct Tree {
    left: InvBox<Tree>,
    right: InvBox<Tree>,
}

type G<'g, 'b> = Guard<'g, &'b MemoryBackend>;

fn make(backend: &MemoryBackend) -> ObjId {
    let space = Space::attach(backend).expect("attached");
    space.transact(|tx| Ok::<_, Error>(space.id_of(tx.create::<Root>()?.area()))).expect("made")
}

fn open<'g>(guard: &'g G<'g, '_>, id: ObjId) -> Object<'g, Root> {
    guard.open::<Root>(id, Access::Write).expect("there")
}

fn used(guard: &G<'_, '_>, id: ObjId) -> u64 {
    guard.heap_usage(guard.open_any(id, Access::Read).expect("there")).expect("whole").used_bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_list_does_what_a_deque_does(steps in prop::collection::vec((0u8..6, any::<u16>()), 1..120)) {
        let backend = MemoryBackend::new();
        let id = make(&backend);
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let list = List::new(open(&guard, id).base().at(Root::list));
        let reader = &guard;
        let mut model = VecDeque::new();
        for (n, (what, at)) in steps.into_iter().enumerate() {
            let (n, at) = (n as u64, usize::from(at) % (model.len() + 1));
            let node = |at: usize| list.nodes(&reader).nth(at).map(|node| node.expect("whole"));
            let chosen = node(at);
            guard.transact(|tx| match what {
                0 => list.push_front(tx, n).map(drop),
                1 => list.push_back(tx, n).map(drop),
                2 => list.pop_front(tx).map(|value| assert_eq!(value, model.front().copied())),
                3 => list.pop_back(tx).map(|value| assert_eq!(value, model.back().copied())),
                4 => {
                    let node = list.insert_node(tx, chosen)?;
                    tx.set(node.at(twizzler_object::collections::ListNode::<u64>::value), n)
                }
                _ => chosen.map_or(Ok(()), |node| list.remove_node(tx, node)),
            }).expect("changed");
            match what {
                0 => model.push_front(n),
                1 => model.push_back(n),
                2 => drop(model.pop_front()),
                3 => drop(model.pop_back()),
                4 => model.insert(at, n),
                _ => drop(model.remove(at)),
            }
            prop_assert!(list.iter(&reader).eq(model.iter().copied().map(Ok)));
            prop_assert_eq!(list.len(&reader), model.len() as u64);
        }
        guard.transact(|tx| list.clear(tx)).expect("cleared");
        prop_assert_eq!(used(&guard, id), 0);
    }

    #[test]
    fn a_log_gives_what_was_appended(steps in prop::collection::vec((0u8..10, 0usize..30_000), 1..80)) {
        let backend = MemoryBackend::new();
        let id = make(&backend);
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let log = Log::new(open(&guard, id).base().at(Root::log));
        let reader = &guard;
        let mut model: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        let mut follower = log.follower(&reader);
        let mut seen = 0;
        for (n, (what, len)) in steps.into_iter().enumerate() {
            match what {
                0..7 => {
                    let entry = vec![n as u8; if what < 3 { len % 50 } else { len }];
                    let position = guard.transact(|tx| log.append(tx, &entry)).expect("appended");
                    model.push_back((position, entry));
                }
                7 => while let Some(entry) = follower.next(&reader).expect("whole") {
                    let at = model.iter().position(|(position, _)| *position >= seen).expect("there");
                    prop_assert_eq!(&model[at].1, &entry);
                    seen = follower.position();
                },
                _ => {
                    let gone = len % (model.len() + 1);
                    let position = model.get(gone).map_or(log.end(&reader), |(position, _)| *position);
                    guard.transact(|tx| log.drop_before(tx, position)).expect("dropped");
                    model.drain(..gone);
                }
            }
            prop_assert!(log.iter(&reader).eq(model.iter().map(|(_, entry)| Ok(entry.clone()))));
        }
        let end = log.end(&reader);
        guard.transact(|tx| log.drop_before(tx, end)).expect("dropped");
        prop_assert!(used(&guard, id) <= 64 * 1024, "what is empty was given back");
    }

    #[test]
    fn damaged_chains_end_with_an_error(flips in prop::collection::vec((any::<u32>(), any::<u8>()), 1..30)) {
        let backend = MemoryBackend::new();
        let id = make(&backend);
        let space = Space::attach(&backend).expect("attached");
        let guard = space.enter();
        let reader = &guard;
        let root = open(&guard, id).base();
        let (list, log) = (List::new(root.at(Root::list)), Log::new(root.at(Root::log)));
        guard.transact(|tx| (0..100).try_for_each(|n| {
            list.push_back(tx, n)?;
            log.append(tx, &[n as u8; 1500]).map(drop)
        })).expect("made");
        let pages = backend.pages_of(id);
        let pages: Vec<u64> = pages.into_iter().filter(|page| *page >= 3).collect();
        for (at, bits) in flips {
            let (page, at) = if at % 2 == 0 { (pages[0], at % 96) } else { (pages[at as usize / 4096 % pages.len()], at % 4096) };
            backend.damage(id, page * 4096 + u64::from(at), |byte| byte ^ bits);
        }
        let _ = list.iter(&reader).take(10_000).count();
        let _ = log.iter(&reader).take(10_000).count();
        if let Ok(mut tx) = guard.begin() {
            let _ = list.push_front(&mut tx, 1).and_then(|_| list.pop_back(&mut tx));
            let _ = log.append(&mut tx, b"entry").and_then(|end| log.drop_before(&mut tx, end));
            tx.abort();
        }
    }
}

/// Entries of 16 bytes with their length end with each segment, so the place behind one is where a segment ends.
#[test]
fn who_follows_a_log_may_drop_all_that_it_has_read() {
    const SEGMENT: u64 = 64 * 1024 - 16;
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = open(&guard, id).base();
    let (log, reader) = (Log::new(root.at(Root::log)), &guard);
    let mut follower = log.follower(&reader);
    let entry = |position: u64| (u128::from(position) | 7 << 64).to_le_bytes()[..12].to_vec();
    for round in 1..=6 {
        let rest = log.end(&reader)..round * SEGMENT;
        let append = |tx: &mut _, position| log.append(tx, &entry(position)).map(drop);
        guard.transact(|tx| rest.clone().step_by(16).try_for_each(|at| append(tx, at))).expect("appended");
        for at in rest.step_by(16) {
            assert_eq!(follower.next(&reader), Ok(Some(entry(at))));
        }
        let at = round * SEGMENT;
        assert_eq!((follower.position(), log.end(&reader)), (at, at));
        if round % 2 == 0 {
            guard
                .transact(|tx| {
                    log.drop_before(tx, at)?;
                    append(tx, at)
                })
                .expect("changed");
        } else {
            guard.transact(|tx| log.drop_before(tx, at)).expect("dropped");
            // Where the segment was.
            guard.transact(|tx| tx.alloc_bytes(root.object(), &[0; 65_536]).map(drop)).expect("allocated");
            assert_eq!(follower.next(&reader), Ok(None));
            guard.transact(|tx| append(tx, at)).expect("appended");
        }
        assert_eq!(follower.next(&reader), Ok(Some(entry(at))), "round {round}");
    }
}

#[test]
fn a_log_is_not_cut_within_an_entry() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let log = Log::new(open(&guard, id).base().at(Root::log));
    let append = |len| guard.transact(|tx| log.append(tx, &vec![7; len])).expect("appended");
    let positions = [append(12), append(100_000), append(12)];
    let cut = |at| guard.transact(|tx| log.drop_before(tx, at));
    for at in [positions[0] + 1, positions[0] + 4, positions[1] - 1, positions[1] + 70_000, positions[2] + 15]
    {
        assert_eq!(cut(at), Err(Error::InvalidArgument), "at {at}");
        assert_eq!(log.start(&&guard), 0);
    }
    assert_eq!(cut(positions[2]), Ok(()));
    assert!(log.iter(&&guard).eq([Ok(vec![7; 12])]));
}

#[test]
fn a_queue_carries_values_between_programs() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let (sender, receiver) = (Space::attach(&backend).expect("a"), Space::attach(&backend).expect("b"));
    let (ours, theirs) = (sender.enter(), receiver.enter());
    let from = Queue::new(open(&ours, id).base().at(Root::queue));
    let to = Queue::new(open(&theirs, id).base().at(Root::queue));
    assert_eq!(ours.transact(|tx| from.send(tx, 1)), Ok(false), "there are no places yet");
    ours.transact(|tx| from.set_capacity(tx, 3)).expect("capacity");
    let mut next = 0;
    for n in 0..20 {
        while ours.transact(|tx| from.send(tx, next)).expect("sent") {
            next += 1;
        }
        from.wake(&sender);
        assert_eq!(to.len(&&theirs), 3);
        assert_eq!(theirs.transact(|tx| to.receive(tx)), Ok(Some(n)));
        // What is undone was not received.
        let undone = theirs.transact(|tx| to.receive(tx).and(Err::<(), _>(Error::Interrupted)));
        assert_eq!(undone, Err(Error::Interrupted));
    }
    assert_eq!(ours.transact(|tx| from.set_capacity(tx, 9)), Err(Error::Busy));
    while theirs.transact(|tx| to.receive(tx)).expect("received").is_some() {}
    to.wait_for_value(&receiver, &&theirs, 1000);
    ours.transact(|tx| from.set_capacity(tx, 0)).expect("capacity");
    assert_eq!(used(&ours, id), 0);
}

#[test]
fn a_text_grows() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let text = Text::new(open(&guard, id).base().at(Root::text));
    let reader = &guard;
    let mut model = String::new();
    for n in 0..200 {
        let more = "größer ".repeat(n);
        guard.transact(|tx| text.push_str(tx, &more)).expect("pushed");
        model += &more;
    }
    assert_eq!(text.get(&reader).as_ref(), Ok(&model));
    guard.transact(|tx| text.set(tx, "kurz")).expect("set");
    assert_eq!((text.get(&reader), text.len(&reader)), (Ok("kurz".into()), 4));
    guard.transact(|tx| text.clear(tx)).expect("cleared");
    assert_eq!(used(&guard, id), 0);
}

/// Frees a tree from its leaves up.
fn fell<'g>(
    tx: &mut twizzler_object::Tx<'g, &MemoryBackend>,
    place: Ptr<'g, InvBox<Tree>>,
) -> Result<(), Error> {
    InvBox::free(tx, place, |tx, tree| {
        fell(tx, tree.at(Tree::left))?;
        fell(tx, tree.at(Tree::right))
    })
}

#[test]
fn boxes_own_what_they_point_to() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = open(&guard, id).base();
    let (tree, other) = (root.at(Root::tree), root.at(Root::other));
    guard
        .transact(|tx| {
            let mut places = vec![tree];
            for _ in 0..40 {
                let node = InvBox::fill(tx, places.remove(0), root.object())?;
                places.extend([node.at(Tree::left), node.at(Tree::right)]);
            }
            assert_eq!(InvBox::fill(tx, tree, root.object()).err(), Some(Error::Exists));
            InvBox::give(tx, tree, other)
        })
        .expect("grown");
    assert_eq!(used(&guard, id), 40 * 16);
    assert_eq!(InvBox::open(&&guard, tree), Ok(None));
    guard.transact(|tx| fell(tx, other)).expect("felled");
    assert_eq!(used(&guard, id), 0);
}

/// What outlives a power cut can't point to what doesn't.
#[test]
fn a_target_that_its_box_can_not_point_to_is_not_lost() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let (nonce, owner, default_rights) = ([0; 16], ObjId::NONE, USUAL_RIGHTS.bits());
    let spec = CreateSpec { nonce, owner, flags: 0, default_rights, fingerprint: 0 };
    let volatile = backend.create(&spec).expect("made");
    backend.ensure(volatile, HEADER_OFFSET, 2 * PAGE_BYTES).expect("room");
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let tree = open(&guard, id).base().at(Root::tree);
    let area = guard.open_any(volatile, Access::Write).expect("there");
    let other = area.place::<InvBox<Tree>>(BASE_OFFSET).expect("within");
    guard.transact(|tx| tx.set_len_bytes(area, 8)).expect("set");
    // The errors are met within transactions that commit.
    let filled = guard.transact(|tx| Ok::<_, Error>(InvBox::fill(tx, tree, area).map(drop)));
    assert_eq!((filled, used(&guard, volatile)), (Ok(Err(Error::InvalidArgument)), 0));
    guard.transact(|tx| InvBox::fill(tx, other, area).map(drop)).expect("filled");
    let given = guard.transact(|tx| Ok::<_, Error>(InvBox::give(tx, other, tree)));
    assert_eq!(given, Ok(Err(Error::InvalidArgument)));
    guard.transact(|tx| fell(tx, other)).expect("felled");
    assert_eq!(used(&guard, volatile), 0);
}

#[test]
fn the_last_counted_pointer_ends_its_target() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = open(&guard, id).base();
    let [a, b, c] = [0, 1, 2].map(|n| root.at(Root::shared).index(n).expect("there"));
    let weak = root.at(Root::weak);
    guard
        .transact(|tx| {
            let value = InvRc::fill(tx, a, root.object())?;
            tx.set(value, 77)?;
            InvRc::share(tx, a, b)?;
            InvRc::downgrade(tx, b, weak)
        })
        .expect("made");
    assert_eq!(InvRc::strong_count(&&guard, a), Ok(2));
    assert_eq!(guard.transact(|tx| InvRc::release(tx, a, |_, _| Ok(()))), Ok(false));
    assert_eq!(guard.transact(|tx| InvWeak::upgrade(tx, weak, c)), Ok(true));
    assert_eq!(guard.get(InvRc::open(&&guard, c).expect("whole").expect("there")), 77);
    assert_eq!(guard.transact(|tx| InvRc::release(tx, b, |_, _| Ok(()))), Ok(false));
    let mut ended = 0;
    let last = guard.transact(|tx| {
        InvRc::release(tx, c, |tx, value| {
            ended = tx.get(value);
            Ok(())
        })
    });
    assert_eq!((last, ended), (Ok(true), 77));
    assert_eq!(guard.transact(|tx| InvWeak::upgrade(tx, weak, a)), Ok(false));
    assert_ne!(used(&guard, id), 0, "a weak pointer keeps the counts");
    guard.transact(|tx| InvWeak::release(tx, weak)).expect("released");
    assert_eq!(used(&guard, id), 0);
}

/// Twice as long as the object is.
const TOO_MANY: u64 = 1 << 28;

#[test]
fn a_queue_without_room_for_more_places_keeps_those_that_it_has() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let root = open(&guard, id).base();
    let queue = Queue::new(root.at(Root::queue));
    guard.transact(|tx| queue.set_capacity(tx, 2)).expect("capacity");
    // The error is met within the transaction, which commits.
    let tried = guard.transact(|tx| Ok::<_, Error>(queue.set_capacity(tx, TOO_MANY)));
    assert_eq!(tried, Ok(Err(Error::OutOfRange)));
    let other = guard.transact(|tx| tx.alloc_span::<u64>(root.object(), 2)).expect("allocated");
    assert_eq!(guard.transact(|tx| Ok::<_, Error>([queue.send(tx, 5)?, queue.send(tx, 6)?])), Ok([true; 2]));
    assert_eq!([0, 1].map(|n| guard.get(other.index(n).expect("there"))), [0; 2], "is somebody else's");
    assert_eq!(guard.transact(|tx| queue.receive(tx)), Ok(Some(5)));
}

#[test]
fn an_entry_that_finds_no_room_is_not_there_in_part() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let log = Log::new(open(&guard, id).base().at(Root::log));
    let mut model = vec![vec![1; 100]];
    guard.transact(|tx| log.append(tx, &model[0]).map(drop)).expect("appended");
    let mut committed = 0;
    let long = vec![7; 300_000];
    for pages in 0.. {
        backend.set_room(pages);
        let tried = guard.transact(|tx| Ok::<_, Error>(log.append(tx, &long)));
        backend.set_room(u64::MAX);
        match tried {
            Ok(Ok(_)) => break,
            Ok(Err(error)) => {
                assert_eq!(error, Error::OutOfNvm);
                committed += 1;
            }
            // No room for the record.
            Err(error) => assert_eq!(error, Error::OutOfNvm),
        }
        let short = vec![pages as u8; 10];
        guard.transact(|tx| log.append(tx, &short).map(drop)).expect("appended");
        model.push(short);
        assert!(log.iter(&&guard).eq(model.iter().cloned().map(Ok)), "{pages} pages");
    }
    assert!(committed > 5, "{committed}");
    model.push(long);
    assert!(log.iter(&&guard).eq(model.into_iter().map(Ok)));
    guard.transact(|tx| log.drop_before(tx, log.end(tx))).expect("dropped");
    assert!(used(&guard, id) <= 64 * 1024, "what was given up was given back");
}

#[test]
fn a_text_without_room_for_another_stays_as_it_was() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let text = Text::new(open(&guard, id).base().at(Root::text));
    guard.transact(|tx| text.set(tx, "before")).expect("set");
    backend.set_room(1);
    let tried = guard.transact(|tx| Ok::<_, Error>(text.set(tx, &"after".repeat(20_000))));
    assert_eq!(tried, Ok(Err(Error::OutOfNvm)));
    assert_eq!(text.get(&&guard).as_deref(), Ok("before"));
}

#[test]
fn what_is_emptied_can_be_deleted_with_its_object() {
    let backend = MemoryBackend::new();
    let id = make(&backend);
    let space = Space::attach(&backend).expect("attached");
    let guard = space.enter();
    let list = List::new(open(&guard, id).base().at(Root::list));
    guard.transact(|tx| (0..10).try_for_each(|n| list.push_back(tx, n).map(drop))).expect("filled");
    let before = used(&guard, id);
    let kept = guard.transact(|tx| {
        list.pop_front(tx)?;
        let undone: Result<(), Error> = tx.savepoint(|tx| tx.delete(id).and(Err(Error::Interrupted)));
        assert_eq!(undone, Err(Error::Interrupted));
        Ok::<_, Error>(())
    });
    kept.expect("changed");
    assert!(used(&guard, id) < before, "what is freed counts where the object stays");
    let deleted = guard.transact(|tx| {
        list.clear(tx)?;
        tx.delete(id)
    });
    assert_eq!(deleted, Ok(()));
    assert_eq!(guard.open_any(id, Access::Read).err(), Some(Error::NoSuchObject));
}
