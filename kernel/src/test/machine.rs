//! Clocks, timers, locks and other CPUs.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Test, check};
use crate::machine::entry::{self, Access, Hooks, Interrupt, Next};
use crate::machine::lock::{self, Lock};
use crate::machine::start_info::Boot;
use crate::machine::tlb::{self, Flush, Root};
use crate::machine::{clock, cpu, random, smp, timer, user};
use crate::memory::frames::{self, Claim, Frame};

pub(super) const TESTS: &[Test] = &[
    Test { name: "clock_goes_on_and_agrees_between_cpus", run: clock_goes_on_and_agrees_between_cpus },
    Test { name: "timer_comes_when_armed_and_not_before", run: timer_comes_when_armed_and_not_before },
    Test { name: "lock_excludes_other_cpus", run: lock_excludes_other_cpus },
    Test { name: "user_copy_refuses_bad_addresses", run: user_copy_refuses_bad_addresses },
    Test { name: "user_copy_maps_on_demand", run: user_copy_maps_on_demand },
    Test { name: "shootdown_reaches_every_cpu", run: shootdown_reaches_every_cpu },
    Test { name: "random_bytes_differ", run: random_bytes_differ },
];

static TIMERS: AtomicU64 = AtomicU64::new(0);

/// Counts timers; resolves nothing but what [`RESOLVE`] says.
static HOOKS: Hooks = Hooks {
    call: |_, _| {},
    fault: |_, _, _| {},
    interrupt: |_, interrupt| {
        if interrupt == Interrupt::Timer {
            TIMERS.fetch_add(1, Ordering::Relaxed);
        }
    },
    schedule: |_| Next::Idle,
    resolve: |_, address, access| resolve(address, access),
    start: |_| {},
};

fn clock_goes_on_and_agrees_between_cpus(_: &'static Boot) -> Result<(), String> {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    static BACKWARDS_NS: AtomicU64 = AtomicU64::new(0);
    smp::everywhere(|_| {
        for _ in 0..1000 {
            let latest = LATEST.load(Ordering::SeqCst);
            let now = clock::now_ns();
            BACKWARDS_NS.fetch_max(latest.saturating_sub(now), Ordering::Relaxed);
            LATEST.fetch_max(now, Ordering::SeqCst);
        }
    });
    // An emulator's CPUs may differ by little.
    let backwards = BACKWARDS_NS.load(Ordering::Relaxed);
    check!(backwards < 100_000, "{backwards} ns");
    check!(clock::epoch_s() > 1_600_000_000);
    Ok(())
}

fn timer_comes_when_armed_and_not_before(_: &'static Boot) -> Result<(), String> {
    entry::install(&HOOKS);
    for ns in [200_000, 1_000_000, 20_000_000] {
        let (before, start) = (TIMERS.load(Ordering::Relaxed), clock::now_ns());
        timer::arm(start + ns);
        while TIMERS.load(Ordering::Relaxed) == before && clock::now_ns() < start + 1_000_000_000 {
            x86_64::instructions::interrupts::enable_and_hlt();
            x86_64::instructions::interrupts::disable();
        }
        let passed = clock::now_ns() - start;
        check!(TIMERS.load(Ordering::Relaxed) == before + 1, "no timer");
        check!(passed >= ns && passed < ns + 100_000_000, "{passed} ns instead of {ns}");
    }
    Ok(())
}

fn lock_excludes_other_cpus(_: &'static Boot) -> Result<(), String> {
    const ROUNDS: u64 = 1_000;
    static COUNT: Lock<u64, 0> = Lock::new(0);
    *COUNT.lock() = 0;
    smp::everywhere(|_| {
        for _ in 0..ROUNDS {
            let mut count = COUNT.lock();
            let old = *count;
            core::hint::black_box(&mut count);
            *count = old + 1;
        }
    });
    let count = *COUNT.lock();
    check!(count == ROUNDS * cpu::count() as u64, "{count}");
    Ok(())
}

fn user_copy_refuses_bad_addresses(_: &'static Boot) -> Result<(), String> {
    entry::install(&HOOKS);
    RESOLVE.store(0, Ordering::Relaxed);
    let mut buffer = [0; 64];
    let kernel = buffer.as_ptr() as u64;
    for address in
        [0, 8, 0x1000, (1 << 47) - 4096, (1 << 47) - 32, 1 << 47, 1 << 63, kernel, u64::MAX - 8, u64::MAX]
    {
        check!(user::copy_in(&mut buffer, address).is_err(), "from {address:#x}");
        check!(user::copy_out(address, &buffer).is_err(), "to {address:#x}");
        check!(
            user::load_word(address).is_err() && user::store_word(address, 1).is_err(),
            "word at {address:#x}"
        );
    }
    check!(user::load_word(USER + 4).is_err());
    check!(user::copy_in(&mut [], 8).is_ok());
    Ok(())
}

/// Where tests map pages, and the frame (its address, or 0) that [`resolve`] maps there, and later accesses.
pub(super) const USER: u64 = 0x40_0000_0000;
static RESOLVE: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);
/// The leaf entry for [`USER`].
static LEAF: AtomicU64 = AtomicU64::new(0);

pub(super) fn set_leaf(frame: u64) {
    let leaf = LEAF.load(Ordering::Relaxed) as *mut u64;
    // SAFETY: an entry of the test's own table, in the direct map.
    unsafe { leaf.write_volatile(if frame == 0 { 0 } else { frame | 0x67 }) };
}

fn resolve(address: u64, access: Access) -> bool {
    let frame = RESOLVE.load(Ordering::Relaxed);
    if frame == 0 || address & !4095 != USER {
        return false;
    }
    WRITES.fetch_add(u64::from(access == Access::Write), Ordering::Relaxed);
    set_leaf(frame);
    true
}

/// A root with tables down to the leaf for [`USER`], which is empty. The tables are not given back.
pub(super) fn make_root() -> Result<Arc<Root>, String> {
    let root = Root::new().map_err(|error| alloc::format!("{error}"))?;
    let mut table = root.pml4();
    for shift in [39, 30, 21] {
        let next = frames::allocate_zeroed(Claim::User).ok_or("no frame")?;
        let entry = table.pointer().cast::<u64>().wrapping_add((USER >> shift & 511) as usize);
        // SAFETY: an entry of the test's own table, in the direct map.
        unsafe { entry.write_volatile(next.address() | 0x67) };
        table = next;
    }
    let leaf = table.pointer().cast::<u64>().wrapping_add((USER >> 12 & 511) as usize);
    LEAF.store(leaf as u64, Ordering::Relaxed);
    Ok(Arc::new(root))
}

fn user_copy_maps_on_demand(_: &'static Boot) -> Result<(), String> {
    entry::install(&HOOKS);
    let root = make_root()?;
    let frame = frames::allocate_zeroed(Claim::User).ok_or("no frame")?;
    tlb::load(cpu::current(), Some(&root));
    RESOLVE.store(frame.address(), Ordering::Relaxed);
    WRITES.store(0, Ordering::Relaxed);
    let wrote = user::copy_out(USER + 3, b"hello");
    let writes = WRITES.load(Ordering::Relaxed);
    let mut back = [0; 5];
    let read = user::copy_in(&mut back, USER + 3);
    let word = (user::store_word(USER + 8, 42), user::load_word(USER + 8));
    // The second page is not to be had: the copy fails, and nothing else happens.
    let beyond = user::copy_out(USER + 4000, &[7; 200]);
    tlb::load(cpu::current(), None);
    RESOLVE.store(0, Ordering::Relaxed);
    frames::free(frame);
    check!(wrote.is_ok() && read.is_ok() && &back == b"hello" && writes == 1);
    check!(word == (Ok(()), Ok(42)));
    check!(beyond.is_err());
    Ok(())
}

fn shootdown_reaches_every_cpu(_: &'static Boot) -> Result<(), String> {
    static ROOT: spin::Once<Arc<Root>> = spin::Once::new();
    /// What the other CPUs have to see from now on, and how often they didn't.
    static WANTED: AtomicU64 = AtomicU64::new(1);
    static WRONG: AtomicU64 = AtomicU64::new(0);
    static SEEN: AtomicU64 = AtomicU64::new(0);
    static READY: AtomicU64 = AtomicU64::new(0);
    const ROUNDS: u64 = 20;
    entry::install(&HOOKS);
    let root = make_root()?;
    ROOT.call_once(|| root);
    let frames: [Option<Frame>; 2] = [(); 2].map(|()| frames::allocate_zeroed(Claim::User));
    let [Some(a), Some(b)] = frames else { return Err(String::from("no frame")) };
    static FRAMES: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    FRAMES[0].store(a.address(), Ordering::Relaxed);
    FRAMES[1].store(b.address(), Ordering::Relaxed);
    set_leaf(a.address());
    smp::everywhere(|cpu| {
        let root = ROOT.get().expect("set above");
        tlb::load(cpu, Some(root));
        READY.fetch_add(1, Ordering::SeqCst);
        if cpu.index() == 0 {
            while READY.load(Ordering::SeqCst) < cpu::count() as u64 {
                lock::relax();
            }
            for round in 1..=ROUNDS {
                let next = FRAMES[(round % 2) as usize].load(Ordering::Relaxed);
                // The value appears in the frame before the frame appears.
                // SAFETY: a frame of the test's own.
                unsafe { crate::memory::direct::pointer(next).cast::<u64>().write_volatile(round + 1) };
                set_leaf(next);
                tlb::shoot(&[root], Flush::Range { start: USER, pages: 1 });
                WANTED.store(round + 1, Ordering::SeqCst);
            }
        } else {
            let mut wanted = 0;
            while wanted <= ROUNDS {
                wanted = WANTED.load(Ordering::SeqCst);
                match user::load_word(USER) {
                    Ok(value) if value >= wanted || wanted == 1 => SEEN.fetch_add(1, Ordering::Relaxed),
                    _ => WRONG.fetch_add(1, Ordering::Relaxed),
                };
                lock::relax();
            }
        }
        tlb::load(cpu, None);
    });
    let (wrong, seen) = (WRONG.load(Ordering::Relaxed), SEEN.load(Ordering::Relaxed));
    check!(wrong == 0, "{wrong} stale of {seen}");
    check!(cpu::count() == 1 || tlb::shootdowns() > 0);
    Ok(())
}

fn random_bytes_differ(_: &'static Boot) -> Result<(), String> {
    let mut fills = [[0; 100]; 3];
    fills.iter_mut().for_each(|fill| random::fill(fill));
    check!(fills[0] != fills[1] && fills[1] != fills[2]);
    let ones: u32 = fills.iter().flatten().map(|byte| byte.count_ones()).sum();
    check!((1000..1400).contains(&ones), "{ones} of 2400 bits");
    Ok(())
}
