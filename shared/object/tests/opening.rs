//! Objects that are opened, again and again and so without a lock, while others unmap them, map others where they were, take mappings back, and delete
//! and make them anew, in this program and in another one.
//!
//! Whoever has a guard sees the object that he opened, and no other, until the guard goes. `TWIZZLER_SCHEDULES` and `TWIZZLER_OPENINGS` (seconds) make longer runs.

mod rooms;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rooms::{Machine, Program};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};
use twizzler_abi::call::{CreateSpec, USUAL_RIGHTS};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::{Error, ObjId};
use twizzler_campaign::hooked::{Hooked, Hooks, Step};
use twizzler_object::{Access, Backend, Guard, OpenError, Space, Stored, Waited};

/// An object says which one it is.
#[derive(Stored)]
#[stored(name = "test.opened", version = 1)]
#[repr(C)]
struct Named {
    name: u64,
}

/// An object that comes and goes; its name is the number of its life.
const GUEST: CreateSpec = CreateSpec {
    nonce: *b"comes and goes!!",
    owner: ObjId::NONE,
    flags: ObjectFlags::PERSISTENT.bits(),
    default_rights: USUAL_RIGHTS.bits(),
    fingerprint: Named::FINGERPRINT,
};

/// Objects that stay.
const STAY: u64 = 3;

/// What both programs know, and how far the guest has come: each is the number of its last life that was so.
struct Known {
    stay: Vec<ObjId>,
    guest: ObjId,
    made: AtomicU64,
    leaving: AtomicU64,
    gone: AtomicU64,
}

fn make_guest<B: Backend>(space: &Space<B>, life: u64) -> Result<ObjId, Error> {
    space.transact(|tx| {
        let area = tx.create_with(&GUEST)?;
        tx.write_at(area, 0, &life.to_le_bytes())?;
        tx.set_len_bytes(area, 8)?;
        Ok(tx.space().id_of(area))
    })
}

impl Known {
    fn new<B: Backend>(space: &Space<B>) -> Self {
        let make = |name| {
            let made = space.transact(|tx| {
                let object = tx.create::<Named>()?;
                tx.set(object.base().at(Named::name), name)?;
                Ok::<_, Error>(tx.space().id_of(object.area()))
            });
            made.expect("made")
        };
        Self {
            stay: (0..STAY).map(|number| make(1000 + number)).collect(),
            guest: make_guest(space, 1).expect("made"),
            made: AtomicU64::new(1),
            leaving: AtomicU64::new(0),
            gone: AtomicU64::new(0),
        }
    }

    /// Deletes the guest and makes it anew.
    fn renew<B: Backend>(&self, space: &Space<B>) {
        let life = self.made.load(Ordering::SeqCst);
        self.leaving.store(life, Ordering::SeqCst);
        space.transact(|tx| tx.delete(self.guest)).expect("deleted");
        self.gone.store(life, Ordering::SeqCst);
        make_guest(space, life + 1).expect("made again");
        self.made.store(life + 1, Ordering::SeqCst);
    }

    /// Opens one that stays; another thread may go on at each `point`.
    fn look_at_stay<B: Backend>(&self, guard: &Guard<'_, B>, number: u64, point: &impl Fn()) {
        let object = guard.open::<Named>(self.stay[number as usize], Access::Write).expect("it stays");
        for _ in 0..3 {
            assert_eq!(guard.get(object.base().at(Named::name)), 1000 + number, "another object");
            point();
        }
    }

    fn look_at_guest<B: Backend>(&self, guard: &Guard<'_, B>, point: &impl Fn()) {
        let (made, gone) = (self.made.load(Ordering::SeqCst), self.gone.load(Ordering::SeqCst));
        match guard.open::<Named>(self.guest, Access::Read) {
            Ok(object) => {
                let looks = [(); 3].map(|()| {
                    point();
                    guard.get(object.base().at(Named::name))
                });
                // Zero before whoever makes it has committed.
                let lives = [looks[0], looks[1], looks[2]];
                assert!(lives.is_sorted() && (lives[0] == 0 || lives[0] == lives[2]), "{lives:?}");
                assert!(lives[0] != 0 || gone == made || self.leaving.load(Ordering::SeqCst) >= made);
                assert!(lives[0] == 0 || lives[0] > gone, "life {} ended before", lives[0]);
                assert!(lives[2] <= self.made.load(Ordering::SeqCst) + 1, "{lives:?}");
            }
            Err(OpenError::System(Error::NoSuchObject)) => {
                assert!(gone == made || self.leaving.load(Ordering::SeqCst) >= made, "life {made} is there");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// What one guard sees: two objects, one after the other.
    fn look<B: Backend>(&self, space: &Space<B>, number: u64, point: &impl Fn()) {
        let guard = space.enter();
        point();
        let object = guard.open::<Named>(self.stay[number as usize], Access::Read).expect("it stays");
        if number == 0 {
            self.look_at_guest(&guard, point);
        } else {
            self.look_at_stay(&guard, (number + 1) % STAY, point);
        }
        let still = guard.get(object.base().at(Named::name));
        assert_eq!(still, 1000 + number, "what was opened first has changed");
    }

    /// Ends mappings, and maps something else.
    fn shuffle<B: Backend>(&self, space: &Space<B>, number: u64, point: &impl Fn()) {
        space.unmap(self.stay[number as usize]);
        point();
        if number == 0 {
            space.unmap(self.guest);
        }
        self.look_at_stay(&space.enter(), (number + 1) % STAY, point);
    }
}

/// Between any two steps, another thread may go on.
struct Points<'m>(&'m shuttle::sync::atomic::AtomicU64);

impl<'p> Hooks<&'p Program<'p>> for Points<'_> {
    fn step(&self, _step: Step) {
        self.0.load(Ordering::SeqCst);
    }

    fn thread(&self, _below: &&'p Program<'p>) -> u64 {
        (usize::from(shuttle::current::me()) as u64 + 1) * 2
    }

    fn wait(&self, _below: &&'p Program<'p>, _word: &AtomicU64, _value: u64, _timeout_ns: u64) -> Waited {
        shuttle::thread::yield_now();
        Waited::Early
    }

    fn wake(&self, _below: &&'p Program<'p>, _word: &AtomicU64) {}
}

/// Rooms that were taken again.
static REUSED: AtomicU64 = AtomicU64::new(0);

fn in_one_order() {
    let machine = Machine::new();
    let programs = [0, 1].map(|number| machine.program(number));
    let point = shuttle::sync::atomic::AtomicU64::new(0);
    let [one, other] = programs
        .each_ref()
        .map(|program| Space::attach(Hooked::new(program, Points(&point))).expect("attach"));
    let known = Known::new(&one);
    let step = || {
        point.load(Ordering::SeqCst);
    };
    (0..STAY).for_each(|number| known.look(&one, number, &step));
    shuttle::thread::scope(|scope| {
        scope.spawn(|| (0..4).for_each(|number| known.look(&one, number % 2, &step)));
        scope.spawn(|| (0..4).for_each(|number| known.look(&one, number * 2 % STAY, &step)));
        scope.spawn(|| (0..4).for_each(|number| known.shuffle(&one, number % STAY, &step)));
        scope.spawn(|| known.renew(&other));
    });
    known.look_at_guest(&one.enter(), &step);
    drop((one, other));
    REUSED.fetch_add(programs[0].reused(), Ordering::Relaxed);
}

fn number_of(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn a_guard_sees_what_it_opened_in_every_order() {
    fn runner(scheduler: impl Scheduler + 'static) {
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        Runner::new(scheduler, config).run(in_one_order);
    }
    let count = number_of("TWIZZLER_SCHEDULES", 200);
    runner(RandomScheduler::new_from_seed(1, count));
    runner(PctScheduler::new_from_seed(2, 4, count));
    assert!(REUSED.load(Ordering::Relaxed) >= count as u64, "rooms are taken again");
}

#[test]
fn a_guard_sees_what_it_opened_beside_many_threads() {
    let machine = Machine::new();
    let programs = [0, 1].map(|number| machine.program(number));
    let [one, other] = programs.each_ref().map(|program| Space::attach(program).expect("attach"));
    let known = Known::new(&one);
    let began = Instant::now();
    let usual = Duration::from_secs(number_of("TWIZZLER_OPENINGS", 2) as u64);
    // A busy machine is given more time.
    let goes_on = || {
        let tried = programs[0].reused() > 100 && known.made.load(Ordering::SeqCst) > 10;
        began.elapsed() < usual || (!tried && began.elapsed() < usual + Duration::from_secs(60))
    };
    let repeat = |work: &(dyn Fn(u64) + Sync)| {
        let mut random = 1u64;
        while goes_on() {
            for _ in 0..64 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                work((random >> 33) % STAY);
            }
        }
    };
    let none = || ();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| repeat(&|number| known.look(&one, number, &none)));
        }
        for _ in 0..2 {
            scope.spawn(|| repeat(&|number| known.shuffle(&one, number, &std::thread::yield_now)));
        }
        scope.spawn(|| repeat(&|_| known.renew(&other)));
    });
    let (reused, lives) = (programs[0].reused(), known.made.load(Ordering::SeqCst));
    assert!(reused > 100 && lives > 10, "{reused} rooms taken again, {lives} lives");
}
