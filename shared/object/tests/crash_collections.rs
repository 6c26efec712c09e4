//! Collections under power cuts: each change happens wholly or not at all, whatever the image, and nothing leaks; and each flush and fence of
//! theirs is missed where it is left out.

use std::collections::BTreeMap;

use twizzler_abi::Error;
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_crashsim::{
    Config, Log as Acknowledged, Mutations, Scenario, SimMemory, check_crashes, mutation_run,
};
use twizzler_object::collections::{
    BytesMap, HashMap, HashMapRoot, InvBox, InvRc, List, ListRoot, Log, LogRoot, MapRoot, OrderedMap,
    OrderedMapRoot, Queue, QueueRoot, Text, TextRoot, Vector, VectorRoot,
};
use twizzler_object::{Guard, Ptr, Space, Stored};

#[derive(Stored)]
#[stored(name = "test.crash-collections", version = 2)]
#[repr(C)]
struct Root {
    /// So that the ordered map's root lies on two lines.
    before: [u64; 3],
    ordered: OrderedMapRoot<u64, u64>,
    bytes: MapRoot,
    hashed: HashMapRoot<u64, u64>,
    hashed_bytes: HashMapRoot<[u8], [u8]>,
    vector: VectorRoot<u64>,
    list: ListRoot<u64>,
    log: LogRoot,
    text: TextRoot,
    queue: QueueRoot<u64>,
    owned: InvBox<u64>,
    shared: [InvRc<u64>; 2],
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    /// What the maps of numbers hold.
    maps: BTreeMap<u64, u64>,
    /// What the maps of bytes hold: keys, and lengths of values.
    bytes: BTreeMap<u64, usize>,
    /// What vector and list hold.
    values: Vec<u64>,
    log: Vec<Vec<u8>>,
    text: String,
    queue: Vec<u64>,
    owned: Option<u64>,
    shared: Option<u64>,
}

impl Default for State {
    /// As it is set up.
    fn default() -> Self {
        Self {
            maps: (0..BEFORE).map(|n| (n * 10, n)).collect(),
            bytes: BTreeMap::new(),
            values: Vec::new(),
            log: Vec::new(),
            text: String::new(),
            queue: Vec::new(),
            owned: None,
            shared: None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u64, u64),
    Remove(u64),
    /// So many keys at a time.
    Merge(u64),
    Clear,
    Shrink,
    InsertBytes(u64, usize),
    RemoveBytes(u64),
    Push(u64),
    Pop,
    Append(usize),
    DropLog,
    Write(&'static str),
    SetText(&'static str),
    Send(u64),
    Receive,
    Own(u64),
    Disown,
    Share(u64),
    Unshare,
}

const START: [u8; 16] = *b"collections root";
/// Entries that are there from the beginning: two levels, and a few buckets.
const BEFORE: u64 = 40;
/// Places of the queue.
const PLACES: u64 = 3;

/// Put in and taken out after each recovery.
const PROBE: u64 = 999_999;

type G<'g, 'm> = Guard<'g, SimObjects<'m>>;

struct All<'g> {
    root: Ptr<'g, Root>,
    ordered: OrderedMap<'g, u64, u64>,
    bytes: BytesMap<'g>,
    hashed: HashMap<'g, u64, u64>,
    hashed_bytes: HashMap<'g, [u8], [u8]>,
    vector: Vector<'g, u64>,
    list: List<'g, u64>,
    log: Log<'g>,
    text: Text<'g>,
    queue: Queue<'g, u64>,
    shared: [Ptr<'g, InvRc<u64>>; 2],
}

fn open<'g>(guard: &'g G<'_, '_>) -> Result<All<'g>, Error> {
    let root = guard.well_known::<Root>(START)?.base();
    Ok(All {
        root,
        ordered: OrderedMap::new(root.at(Root::ordered)),
        bytes: BytesMap::new(root.at(Root::bytes)),
        hashed: HashMap::new(root.at(Root::hashed)),
        hashed_bytes: HashMap::new(root.at(Root::hashed_bytes)),
        vector: Vector::new(root.at(Root::vector)),
        list: List::new(root.at(Root::list)),
        log: Log::new(root.at(Root::log)),
        text: Text::new(root.at(Root::text)),
        queue: Queue::new(root.at(Root::queue)),
        shared: [0, 1].map(|n| root.at(Root::shared).index(n).expect("there are two")),
    })
}

/// Keys that come with a merge: between those that are there.
fn merged(count: u64) -> Vec<(u64, u64)> {
    (0..count).map(|n| (n * 7 + 1, n)).collect()
}

fn value(len: usize) -> Vec<u8> {
    vec![len as u8; len]
}

fn perform(guard: &G<'_, '_>, step: Step) -> Result<(), Error> {
    let all = open(guard)?;
    let object = all.root.object();
    guard.transact(|tx| match step {
        Step::Insert(key, value) => {
            all.ordered.insert(tx, key, value)?;
            all.hashed.insert(tx, key, value).map(drop)
        }
        Step::Remove(key) => {
            all.ordered.remove(tx, &key)?;
            all.hashed.remove(tx, &key).map(drop)
        }
        Step::Merge(count) => {
            all.ordered.merge_sorted(tx, &merged(count))?;
            merged(count).into_iter().try_for_each(|(k, v)| all.hashed.insert(tx, k, v).map(drop))
        }
        Step::Clear => {
            all.ordered.clear(tx)?;
            all.hashed.clear(tx)
        }
        Step::Shrink => all.ordered.shrink_to_fit(tx),
        Step::InsertBytes(key, len) => {
            all.bytes.insert(tx, &key.to_be_bytes(), &value(len))?;
            all.hashed_bytes.insert(tx, &key.to_be_bytes(), &value(len)).map(drop)
        }
        Step::RemoveBytes(key) => {
            all.bytes.remove(tx, &key.to_be_bytes())?;
            all.hashed_bytes.remove(tx, &key.to_be_bytes()).map(drop)
        }
        Step::Push(value) => {
            all.vector.push(tx, value)?;
            all.list.push_back(tx, value).map(drop)
        }
        Step::Pop => {
            all.vector.pop(tx)?;
            all.list.pop_back(tx).map(drop)
        }
        Step::Append(len) => all.log.append(tx, &value(len)).map(drop),
        Step::DropLog => all.log.drop_before(tx, all.log.end(tx)),
        Step::Write(text) => all.text.push_str(tx, text),
        Step::SetText(text) => all.text.set(tx, text),
        Step::Send(value) => all.queue.send(tx, value).map(drop),
        Step::Receive => all.queue.receive(tx).map(drop),
        Step::Own(value) => {
            let place = InvBox::fill(tx, all.root.at(Root::owned), object)?;
            tx.set(place, value)
        }
        Step::Disown => InvBox::free(tx, all.root.at(Root::owned), |_, _| Ok(())),
        Step::Share(value) => {
            let place = InvRc::fill(tx, all.shared[0], object)?;
            tx.set(place, value)?;
            InvRc::share(tx, all.shared[0], all.shared[1])
        }
        Step::Unshare => {
            InvRc::release(tx, all.shared[0], |_, _| Ok(()))?;
            InvRc::release(tx, all.shared[1], |_, _| Ok(())).map(drop)
        }
    })
}

fn model(state: &State, step: Step) -> State {
    let mut after = state.clone();
    match step {
        Step::Insert(key, value) => drop(after.maps.insert(key, value)),
        Step::Remove(key) => drop(after.maps.remove(&key)),
        Step::Merge(count) => after.maps.extend(merged(count)),
        Step::Clear => after.maps.clear(),
        Step::Shrink => {}
        Step::InsertBytes(key, len) => drop(after.bytes.insert(key, len)),
        Step::RemoveBytes(key) => drop(after.bytes.remove(&key)),
        Step::Push(value) => after.values.push(value),
        Step::Pop => drop(after.values.pop()),
        Step::Append(len) => after.log.push(value(len)),
        Step::DropLog => after.log.clear(),
        Step::Write(text) => after.text += text,
        Step::SetText(text) => after.text = text.into(),
        Step::Send(value) if after.queue.len() < PLACES as usize => after.queue.push(value),
        Step::Send(_) => {}
        Step::Receive if after.queue.is_empty() => {}
        Step::Receive => drop(after.queue.remove(0)),
        Step::Own(value) => after.owned = Some(value),
        Step::Disown => after.owned = None,
        Step::Share(value) => after.shared = Some(value),
        Step::Unshare => after.shared = None,
    }
    after
}

/// Lengths of values by key, if the values are what they should be.
fn lengths(entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<BTreeMap<u64, usize>, Error> {
    entries
        .into_iter()
        .map(|(key, found)| {
            let key = u64::from_be_bytes(key.try_into().map_err(|_| Error::Damaged)?);
            if found == value(found.len()) { Ok((key, found.len())) } else { Err(Error::Damaged) }
        })
        .collect()
}

/// What waits in a queue: received, and undone.
fn waiting(guard: &G<'_, '_>, queue: Queue<'_, u64>) -> Result<Vec<u64>, Error> {
    let mut values = Vec::new();
    let root = guard.well_known::<Root>(START)?.base();
    let queue_again = Queue::new(root.at(Root::queue));
    let undone = guard.transact(|tx| {
        values.clear();
        while let Some(value) = queue_again.receive(tx)? {
            values.push(value);
        }
        Err::<(), _>(Error::Interrupted)
    });
    if undone != Err(Error::Interrupted) || values.len() as u64 != queue.len(&guard) {
        return Err(Error::Damaged);
    }
    Ok(values)
}

fn look(guard: &G<'_, '_>) -> Result<State, Error> {
    let reader = &guard;
    let all = open(guard)?;
    let maps: BTreeMap<_, _> = all.ordered.iter(reader).collect::<Result<_, _>>()?;
    let hashed: BTreeMap<_, _> = all.hashed.iter(reader).collect::<Result<_, _>>()?;
    let bytes = lengths(all.bytes.iter(reader).collect::<Result<_, _>>()?)?;
    let hashed_bytes = lengths(all.hashed_bytes.iter(reader).collect::<Result<_, _>>()?)?;
    let values: Vec<_> = all.vector.iter(reader).collect::<Result<_, _>>()?;
    let list: Vec<_> = all.list.iter(reader).collect::<Result<_, _>>()?;
    let log = all.log.iter(reader).collect::<Result<_, _>>()?;
    if maps != hashed || bytes != hashed_bytes || values != list {
        return Err(Error::Damaged);
    }
    let shared = all.shared.map(|place| InvRc::open(reader, place));
    if shared[0]? != shared[1]? || shared[0]?.is_some() && InvRc::strong_count(reader, all.shared[0])? != 2 {
        return Err(Error::Damaged);
    }
    let owned = InvBox::open(reader, all.root.at(Root::owned))?;
    Ok(State {
        maps,
        bytes,
        values,
        log,
        text: all.text.get(reader)?,
        queue: waiting(guard, all.queue)?,
        owned: owned.map(|place| guard.get(place)),
        shared: shared[0]?.map(|place| guard.get(place)),
    })
}

struct Steps(Vec<Step>);

impl Scenario for Steps {
    type State = State;

    fn len_bytes(&self) -> u64 {
        memory_bytes(6)
    }

    fn setup(&self, memory: &SimMemory) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attached");
        let guard = space.enter();
        let All { ordered, hashed, queue, .. } = open(&guard).expect("made");
        guard
            .transact(|tx| {
                queue.set_capacity(tx, PLACES)?;
                (0..BEFORE).try_for_each(|n| {
                    ordered.insert(tx, n * 10, n)?;
                    hashed.insert(tx, n * 10, n).map(drop)
                })
            })
            .expect("filled");
    }

    fn run(&self, memory: &SimMemory, log: &mut Acknowledged<'_, State>) {
        let space = Space::attach(SimObjects::boot(memory)).expect("attached");
        let guard = space.enter();
        let mut state = look(&guard).expect("whole");
        for &step in &self.0 {
            state = model(&state, step);
            log.begin(state.clone());
            perform(&guard, step).expect("done");
            log.acknowledge(state.clone());
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<State, String> {
        let space = Space::attach(SimObjects::boot(memory)).map_err(|error| error.to_string())?;
        let guard = space.enter();
        let mut found = look(&guard).map_err(|error| error.to_string())?;
        // A recovery that was cut off may have left its probes.
        let probes = [
            (found.maps.contains_key(&PROBE), Step::Remove(PROBE)),
            (found.values.last() == Some(&PROBE), Step::Pop),
        ];
        for (_, step) in probes.into_iter().filter(|(there, _)| *there) {
            perform(&guard, step).map_err(|error| format!("{step:?} of the probe: {error}"))?;
            found = look(&guard).map_err(|error| error.to_string())?;
        }
        // What was recovered goes on working.
        for step in [Step::Insert(PROBE, 5), Step::Push(PROBE), Step::Remove(PROBE), Step::Pop] {
            perform(&guard, step).map_err(|error| format!("{step:?} after recovery: {error}"))?;
        }
        let after = look(&guard).map_err(|error| error.to_string())?;
        if after == found { Ok(found) } else { Err(format!("{found:?} became {after:?}")) }
    }
}

fn check(steps: &[Step]) {
    match check_crashes(&Steps(steps.to_vec()), &Config::default()) {
        Ok(report) => println!("{report}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn maps_change_wholly_or_not_at_all() {
    check(&[Step::Insert(15, 1), Step::Insert(20, 2), Step::Remove(30), Step::Insert(16, 3)]);
}

#[test]
fn vectors_lists_and_logs_change_wholly_or_not_at_all() {
    check(&[Step::Push(1), Step::Append(10), Step::Push(2), Step::Pop, Step::Append(900), Step::DropLog]);
}

#[test]
fn whole_maps_come_and_go_wholly_or_not_at_all() {
    check(&[Step::Merge(30), Step::Clear, Step::Shrink, Step::Insert(1, 1)]);
}

#[test]
fn maps_of_bytes_change_wholly_or_not_at_all() {
    check(&[
        Step::InsertBytes(1, 3),
        Step::InsertBytes(2, 3000),
        Step::InsertBytes(1, 2000),
        Step::RemoveBytes(2),
    ]);
}

#[test]
fn texts_queues_and_boxes_change_wholly_or_not_at_all() {
    check(&[Step::Write("one"), Step::Send(1), Step::Own(5), Step::SetText("other"), Step::Share(7)]);
    check(&[
        Step::Send(1),
        Step::Send(2),
        Step::Receive,
        Step::Own(5),
        Step::Disown,
        Step::Share(7),
        Step::Unshare,
    ]);
}

/// Sites that nobody misses here, by words that they contain, and why that is right.
const REDUNDANT: &[(&[&str], &str)] = &[
    (&["claim_lane"], "of lanes, which session.rs of the campaign cuts off"),
    (&["add_lane"], "as above"),
    (&["open_well_known"], "whoever opens the object next does it again"),
    (&["flush", "store_flushed"], "versions order the records of several lanes; here is one program"),
    (&["recover_media"], "recovery finds nothing unfinished where nothing is left out"),
    (&["types::publish"], "descriptions of types, which no model asks for"),
];

#[test]
fn each_flush_and_fence_is_missed() {
    let mut found = Mutations::default();
    let scripts: [&[Step]; 5] = [
        &[Step::Insert(15, 1), Step::Remove(30), Step::Insert(16, 2)],
        &[Step::Merge(10), Step::Clear],
        &[Step::InsertBytes(1, 3000), Step::RemoveBytes(1), Step::InsertBytes(2, 3)],
        &[Step::Push(1), Step::Append(10), Step::Pop, Step::Append(3000)],
        &[Step::Write("one"), Step::Send(1), Step::Own(5), Step::Receive, Step::Share(7), Step::Disown],
    ];
    for script in scripts {
        let config = Config { nested: None, ..Config::default() };
        let now = mutation_run(&Steps(script.to_vec()), &config)
            .unwrap_or_else(|failure| panic!("{script:?}: {failure}"));
        println!("{script:?}: {} sites missed, {} not", now.missed.len(), now.never_missed().len());
        found.extend(now);
    }
    let left: Vec<&str> = found
        .never_missed()
        .into_iter()
        .filter(|site| !REDUNDANT.iter().any(|(parts, _)| parts.iter().all(|part| site.contains(part))))
        .collect();
    assert!(left.is_empty(), "never missed:\n  {}", left.join("\n  "));
    assert!(found.missed.len() >= 5, "{found}");
}
