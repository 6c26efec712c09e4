//! The Linux side of the comparison: the first and only process of a Linux guest. It measures what has an
//! equivalent in Twizzler, reports each figure as a line on the console, and powers the guest off.
//!
//! Built as a static program by `cargo run -- bench`; run on an ordinary Linux it prints the same lines
//! and leaves the machine alone.

use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{read, write};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::pipe::pipe;
use rustix::process::getppid;
use rustix::thread::{CpuSet, futex, sched_setaffinity, sched_yield};
use twizzler_bench::line;

const PAGE: usize = 4096;

fn main() {
    // One processor, as in the figures of Twizzler that these stand beside.
    let mut first = CpuSet::new();
    first.set(0);
    let _ = sched_setaffinity(None, &first);
    report("null_call", 20_000, null_call);
    report("page_fault", 4_000, page_faults);
    report("map_touch_unmap", 1_000, map_touch_unmap);
    report("create_delete", 1_000, create_delete);
    report("yield_switch", 5_000, yield_switch);
    report("futex_ping_pong", 2_000, futex_ping_pong);
    report("pipe_ping_pong", 2_000, pipe_ping_pong);
    if rustix::process::getpid().is_init() {
        let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    }
}

/// Takes the best of several measurements, after one that warms up.
fn report(name: &str, rounds: u64, work: fn(u64)) {
    work(rounds / 10);
    let best = (0..5)
        .map(|_| {
            let started = Instant::now();
            work(rounds);
            started.elapsed().as_nanos() as f64 / rounds as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!("{}", line(name, best));
}

fn null_call(rounds: u64) {
    for _ in 0..rounds {
        std::hint::black_box(getppid());
    }
}

/// First touches of anonymous pages; mapping and unmapping are spread over many.
fn page_faults(rounds: u64) {
    let bytes = rounds as usize * PAGE;
    let start = map_anonymous(bytes);
    for page in 0..rounds as usize {
        touch(start, page);
    }
    unmap(start, bytes);
}

/// What stands beside mapping an object: a page of a file in memory is mapped, touched and unmapped.
fn map_touch_unmap(rounds: u64) {
    let file = memfd_create("peer", MemfdFlags::empty()).expect("memfd");
    ftruncate(&file, PAGE as u64).expect("memory");
    for _ in 0..rounds {
        // SAFETY: the kernel chooses the address, so nothing else is mapped there.
        let start = unsafe {
            mmap(ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        };
        let start = start.expect("maps").cast::<u8>();
        touch(start, 0);
        unmap(start, PAGE);
    }
}

/// What stands beside creating and deleting an object: a file in memory with one page of content.
fn create_delete(rounds: u64) {
    for _ in 0..rounds {
        let file = memfd_create("peer", MemfdFlags::empty()).expect("memfd");
        write(&file, &[1; PAGE]).expect("memory");
    }
}

fn yield_switch(rounds: u64) {
    // Two threads hand the processor to each other: each yield is one switch.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || (0..rounds / 2).for_each(|_| sched_yield()));
        }
    });
}

/// There and back again.
fn futex_ping_pong(rounds: u64) {
    let turn = AtomicU32::new(0);
    let play = |me: u32| {
        for _ in 0..rounds {
            while turn.load(Ordering::Acquire) != me {
                let _ = futex::wait(&turn, futex::Flags::PRIVATE, 1 - me, None);
            }
            turn.store(1 - me, Ordering::Release);
            let _ = futex::wake(&turn, futex::Flags::PRIVATE, 1);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| play(1));
        play(0);
    });
}

/// There and back again.
fn pipe_ping_pong(rounds: u64) {
    let (there_out, there_in) = pipe().expect("pipe");
    let (back_out, back_in) = pipe().expect("pipe");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut byte = [0];
            for _ in 0..rounds {
                read(&there_out, &mut byte).expect("reads");
                write(&back_in, &byte).expect("writes");
            }
        });
        let mut byte = [0];
        for _ in 0..rounds {
            write(&there_in, &byte).expect("writes");
            read(&back_out, &mut byte).expect("reads");
        }
    });
}

fn map_anonymous(bytes: usize) -> *mut u8 {
    // SAFETY: the kernel chooses the address, so nothing else is mapped there.
    let start = unsafe {
        mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    };
    let start = start.expect("memory");
    // SAFETY: the range was mapped just now, and this changes no content.
    let _ = unsafe { madvise(start, bytes, Advice::LinuxNoHugepage) };
    start.cast()
}

fn touch(start: *mut u8, page: usize) {
    // SAFETY: the callers mapped this many pages at `start`.
    let at = unsafe { start.add(page * PAGE) };
    // SAFETY: the page is mapped for writing, and nothing refers to it.
    unsafe { at.write_volatile(1) };
}

fn unmap(start: *mut u8, bytes: usize) {
    // SAFETY: the range was mapped by the caller, which uses it no more.
    unsafe { munmap(start.cast(), bytes) }.expect("unmaps");
}
