//! Time: the TSC, measured once against the PM timer or the PIT.
//!
//! CPUs' TSCs are taken to run at one constant rate and to agree, as they do on every machine with an invariant TSC.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;

static BASE: AtomicU64 = AtomicU64::new(0);
static MULTIPLIER: AtomicU64 = AtomicU64::new(1 << 32);

/// PM timer: 3.579545 MHz, 24 bits (ACPI 6.5, section 4.8.3.3).
const PM_TIMER_HZ: u64 = 3_579_545;
const PIT_HZ: u64 = 1_193_182;
/// How long a measurement takes.
const MEASURE_MS: u64 = 5;

/// The time stamp counter.
#[must_use]
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has it, and the kernel never sets CR4.TSD.
    unsafe { _rdtsc() }
}

/// Nanoseconds since the kernel's entry.
#[must_use]
pub(crate) fn now_ns() -> u64 {
    let ticks = tsc().saturating_sub(BASE.load(Ordering::Relaxed));
    to_ns(ticks)
}

fn to_ns(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(MULTIPLIER.load(Ordering::Relaxed))) >> 32) as u64
}

/// `(base, multiplier)`: `now_ns = (tsc - base) * multiplier >> 32`.
#[must_use]
pub(crate) fn scale() -> (u64, u64) {
    (BASE.load(Ordering::Relaxed), MULTIPLIER.load(Ordering::Relaxed))
}

/// Nanoseconds since the CPU was reset, if its TSC started at 0 then.
#[must_use]
pub(crate) fn since_reset_ns() -> u64 {
    to_ns(tsc())
}

/// TSC ticks for so many nanoseconds.
pub(super) fn ticks(ns: u64) -> u64 {
    let ticks = (u128::from(ns) << 32) / u128::from(MULTIPLIER.load(Ordering::Relaxed));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Notes the TSC at the kernel's entry.
pub(super) fn start() {
    BASE.store(tsc(), Ordering::Relaxed);
}

/// Waits, roughly.
pub(super) fn spin_ns(ns: u64) {
    let end = tsc().saturating_add(ticks(ns));
    while tsc() < end {
        core::hint::spin_loop();
    }
}

/// Sets the TSC's frequency: the known one, or what a measurement against the PM timer at a port, or the PIT, says.
/// `during` is called before and after the measurement, and gets the time between in nanoseconds at the end.
pub(super) fn calibrate(known_hz: u64, pm_timer: Option<u16>, mut during: impl FnMut(Option<u64>)) {
    during(None);
    let start = tsc();
    let ns = match pm_timer {
        Some(port) => wait_pm_timer(port),
        None => wait_pit(),
    };
    let ticks = tsc() - start;
    during(Some(ns));
    let hz = if known_hz != 0 {
        known_hz
    } else {
        (u128::from(ticks) * 1_000_000_000 / u128::from(ns.max(1))) as u64
    };
    let multiplier = (1_000_000_000u128 << 32) / u128::from(hz.max(1));
    MULTIPLIER.store(multiplier as u64, Ordering::Relaxed);
    log::info!("clock: TSC {} MHz", hz / 1_000_000);
}

/// Waits for about [`MEASURE_MS`] and says for how many nanoseconds.
fn wait_pm_timer(port: u16) -> u64 {
    let mut timer = Port::<u32>::new(port);
    // SAFETY: reading the PM timer, at the port that the FADT gives, changes nothing.
    let mut read = || unsafe { timer.read() } & 0xff_ffff;
    let wanted = PM_TIMER_HZ * MEASURE_MS / 1000;
    let start = read();
    let begun = tsc();
    loop {
        let passed = u64::from(read().wrapping_sub(start) & 0xff_ffff);
        if passed >= wanted {
            return passed * 1_000_000_000 / PM_TIMER_HZ;
        }
        if tsc() - begun > 2_000_000_000 {
            log::warn!("clock: the PM timer at port {port:#x} stands still");
            return wait_pit();
        }
    }
}

/// The same by channel 2 of the PIT, which every PC has.
fn wait_pit() -> u64 {
    let count = (PIT_HZ * MEASURE_MS / 1000) as u16;
    let mut gate = Port::<u8>::new(0x61);
    // SAFETY: reads.
    let old = unsafe { gate.read() };
    // Gate on, speaker off; channel 2, mode 0, both bytes of the count.
    for (port, value) in [(0x61, old & !3 | 1), (0x43, 0xb0), (0x42, count as u8), (0x42, (count >> 8) as u8)]
    {
        // SAFETY: ports of the PIT: channel 2 counts down once; nobody else uses it.
        unsafe { Port::<u8>::new(port).write(value) };
    }
    let begun = tsc();
    // SAFETY: reads.
    while unsafe { gate.read() } & 0x20 == 0 && tsc() - begun < 2_000_000_000 {
        core::hint::spin_loop();
    }
    MEASURE_MS * 1_000_000
}

/// Seconds since 1970 by the battery-backed clock; 0: it makes no sense.
#[must_use]
pub(crate) fn epoch_s() -> u64 {
    let mut last = read_rtc();
    for _ in 0..10 {
        let next = read_rtc();
        if next == last {
            return seconds(next).unwrap_or(0);
        }
        last = next;
    }
    0
}

/// Seconds, minutes, hours, day, month, year, status B.
fn read_rtc() -> [u8; 7] {
    [0, 2, 4, 7, 8, 9, 0xb].map(|register: u8| {
        // SAFETY: CMOS index and data ports; reading the clock changes nothing. Used on the boot CPU alone.
        unsafe { Port::<u8>::new(0x70).write(register | 0x80) };
        // SAFETY: as above.
        unsafe { Port::<u8>::new(0x71).read() }
    })
}

fn seconds([second, minute, hour, day, month, year, status]: [u8; 7]) -> Option<u64> {
    let decode = |value: u8| if status & 4 != 0 { value } else { (value >> 4) * 10 + (value & 15) };
    let pm = status & 2 == 0 && hour & 0x80 != 0;
    let hour =
        if status & 2 != 0 { decode(hour) } else { decode(hour & 0x7f) % 12 + if pm { 12 } else { 0 } };
    let (month, day, year) = (decode(month), decode(day), 2000 + u64::from(decode(year)));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 {
        return None;
    }
    // Days from 1970-01-01 to the first of March of the year that the month counts to, starting in March.
    let (y, m) = if month > 2 { (year, u64::from(month) - 3) } else { (year - 1, u64::from(month) + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + u64::from(day) - 1 - 719_468;
    Some(((days * 24 + u64::from(hour)) * 60 + u64::from(decode(minute))) * 60 + u64::from(decode(second)))
}
