//! An object goes and comes back under the same ID, by transactions of several programs, and the power is cut: what the lanes still say of the
//! old one is not done to the new one.

use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::id::IdInputs;
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};
use twizzler_campaign::objects::{SimObjects, memory_bytes};
use twizzler_campaign::programs::{Program, Under};
use twizzler_crashsim::{Config, Effort, Log, Mutations, Scenario, SimMemory, check_crashes, mutation_run};
use twizzler_object::{Access, Space, Tx};

const PROGRAMS: usize = 3;
/// Who keeps what it has opened.
const KEEPER: usize = 1;

/// What a program does to the object, in a transaction.
#[derive(Clone, Copy, Debug)]
enum Do {
    Make(u64),
    Set(u64),
    Delete,
    /// Only reads: a transaction that leaves no record.
    Look,
    /// Makes it and fails.
    TryToMake,
    /// Makes it in a savepoint that fails; nothing else.
    TryInSavepoint,
    /// Not a transaction: opens it and keeps it open. The second program alone does that.
    Keep,
    /// Writes to the one that was kept open, which is gone.
    SetKept,
}

const SPEC: CreateSpec = CreateSpec {
    nonce: *b"comes and goes!!",
    owner: ObjId::NONE,
    flags: ObjectFlags::PERSISTENT.bits(),
    default_rights: USUAL_RIGHTS.bits(),
    fingerprint: 0,
};

fn id() -> ObjId {
    ObjId::derive(&IdInputs {
        nonce: SPEC.nonce,
        owner: SPEC.owner,
        flags: ObjectFlags::PERSISTENT,
        default_rights: USUAL_RIGHTS,
    })
}

fn perform(tx: &mut Tx<'_, Under<'_, '_>>, what: Do) -> Result<(), Error> {
    match what {
        Do::Make(value) => {
            let area = tx.create_with(&SPEC)?;
            tx.write_at(area, 0, &value.to_le_bytes())?;
            tx.set_len_bytes(area, 8)
        }
        Do::Set(value) => {
            let area = tx.open_any(id(), Access::Write)?;
            tx.write_at(area, 0, &value.to_le_bytes())
        }
        Do::Delete => tx.delete(id()),
        Do::Look => tx.open_any(id(), Access::Read).map(drop),
        Do::TryToMake => perform(tx, Do::Make(99)).and(Err(Error::Interrupted)),
        Do::TryInSavepoint => {
            let tried = tx.savepoint(|tx| perform(tx, Do::TryToMake));
            assert_eq!(tried, Err(Error::Interrupted));
            Ok(())
        }
        Do::Keep | Do::SetKept => unreachable!("needs what was kept"),
    }
}

struct Story(&'static [(usize, Do)]);

impl Story {
    fn programs<'h, 'm>(sim: &'h SimObjects<'m>) -> [Space<Under<'h, 'm>>; PROGRAMS] {
        std::array::from_fn(|number| Program::new(number as u64).start(sim).expect("attached"))
    }
}

impl Scenario for Story {
    type State = Option<u64>;

    fn len_bytes(&self) -> u64 {
        memory_bytes(9)
    }

    fn setup(&self, memory: &SimMemory) {
        let sim = SimObjects::boot(memory);
        for space in &Self::programs(&sim) {
            // Each has had a lane.
            space.transact(|tx| tx.create_any().map(drop)).expect("committed");
        }
    }

    fn run(&self, memory: &SimMemory, log: &mut Log<'_, Self::State>) {
        let sim = SimObjects::boot(memory);
        let programs = Self::programs(&sim);
        let keeps = self.0.iter().any(|&(_, what)| matches!(what, Do::Keep));
        let guard = keeps.then(|| programs[KEEPER].enter());
        let mut kept = None;
        for &(program, what) in self.0 {
            let after = match what {
                Do::Make(value) | Do::Set(value) => Some(value),
                Do::Delete => None,
                Do::Look | Do::TryToMake | Do::TryInSavepoint | Do::Keep | Do::SetKept => *log.acknowledged(),
            };
            log.begin(after);
            memory.run_on(program as u8);
            let guard = guard.as_ref().filter(|_| program == KEEPER);
            let result = match (what, guard) {
                (Do::Keep, Some(guard)) => guard.open_any(id(), Access::Write).map(|area| kept = Some(area)),
                (Do::SetKept, Some(guard)) => {
                    let area = kept.expect("kept before");
                    guard.transact(|tx| tx.write_at(area, 0, &99u64.to_le_bytes()))
                }
                _ => programs[program].transact(|tx| perform(tx, what)),
            };
            let expected = match what {
                Do::TryToMake => Err(Error::Interrupted),
                Do::SetKept => Err(Error::NoSuchObject),
                _ => Ok(()),
            };
            assert_eq!(result, expected, "{what:?}");
            log.acknowledge(after);
        }
    }

    fn recover(&self, memory: &SimMemory) -> Result<Self::State, String> {
        let sim = SimObjects::boot(memory);
        let space = Program::new(0).start(&sim).map_err(|error| error.to_string())?;
        if space.recovery().damaged != 0 {
            return Err(format!("{:?}", space.recovery()));
        }
        let guard = space.enter();
        match guard.open_any(id(), Access::Read) {
            Ok(area) => match guard.to_vec(guard.content(area)).try_into() {
                Ok(bytes) => Ok(Some(u64::from_le_bytes(bytes))),
                Err(bytes) => Err(format!("it holds {bytes:?}")),
            },
            Err(Error::NoSuchObject) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

const DELETED_AND_MADE: Story =
    Story(&[(0, Do::Make(1)), (0, Do::Set(2)), (1, Do::Delete), (2, Do::Make(5)), (2, Do::Set(6))]);
/// The record that is torn lies over the latest one: what is left in the lane is the one before that, an old delete.
const DELETED_LONG_AGO: Story =
    Story(&[(0, Do::Make(1)), (0, Do::Delete), (0, Do::Make(5)), (0, Do::Look), (0, Do::Set(6))]);
/// The same, and what is left is an old change.
const SET_LONG_AGO: Story = Story(&[
    (0, Do::Make(1)),
    (0, Do::Set(2)),
    (0, Do::Set(3)),
    (1, Do::Delete),
    (2, Do::Make(5)),
    (0, Do::Look),
    (0, Do::Set(6)),
]);
const UNDONE_AND_MADE: Story = Story(&[(0, Do::TryToMake), (1, Do::Make(5)), (1, Do::Set(6))]);
const UNDONE_IN_PART: Story = Story(&[(0, Do::TryInSavepoint), (1, Do::Make(5)), (1, Do::Set(6))]);
/// By the one who had it open, and who has to open it anew for the next one.
const DELETED_AND_WRITTEN: Story = Story(&[
    (0, Do::Make(1)),
    (KEEPER, Do::Keep),
    (0, Do::Delete),
    (KEEPER, Do::SetKept),
    (2, Do::Make(5)),
    (KEEPER, Do::SetKept),
    (KEEPER, Do::Set(6)),
]);

fn check(story: &Story) {
    match check_crashes(story, &Config::default()) {
        Ok(report) => println!("{report}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn neither_an_old_change_nor_an_old_delete_is_repeated() {
    check(&DELETED_AND_MADE);
}

#[test]
fn nothing_older_than_what_was_applied_is_repeated() {
    check(&DELETED_LONG_AGO);
    check(&SET_LONG_AGO);
}

#[test]
fn an_object_is_kept_that_another_transaction_made_in_vain_before() {
    check(&UNDONE_AND_MADE);
    check(&UNDONE_IN_PART);
}

#[test]
fn nothing_is_written_to_what_another_program_has_deleted() {
    check(&DELETED_AND_WRITTEN);
}

#[test]
fn each_flush_that_keeps_them_apart_is_needed() {
    let effort = Effort { exhaustive: 32, samples: 8, singles: 64 };
    let config = Config { effort, nested: None, ..Config::default() };
    let mut found = Mutations::default();
    for story in [&DELETED_AND_MADE, &UNDONE_AND_MADE] {
        found.extend(mutation_run(story, &config).expect("sound"));
    }
    for site in ["flush_applied", "perform_deletes", "forget_intents"] {
        assert!(found.missed.iter().any(|missed| missed.contains(site)), "nobody misses {site}: {found:#?}");
        let in_vain: Vec<_> = found.never_missed().into_iter().filter(|never| never.contains(site)).collect();
        assert!(in_vain.is_empty(), "{in_vain:#?}");
    }
}
