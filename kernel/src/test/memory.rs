//! Frames, heap, the kernel's mappings, NVM.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use twizzler_pmem::Persist;

use super::{Test, check};
use crate::machine::start_info::Boot;
use crate::machine::{cpu, user};
use crate::memory::dram::DRAM;
use crate::memory::frames::{self, Claim, Frame, ORDER_2M, ORDER_MAX};
use crate::memory::{direct, nvm, paging, stacks};

pub(super) const TESTS: &[Test] = &[
    Test { name: "frames_come_back_whole", run: frames_come_back_whole },
    Test { name: "frames_run_out_as_an_error", run: frames_run_out_as_an_error },
    Test { name: "frames_of_a_block_can_be_freed_singly", run: frames_of_a_block_can_be_freed_singly },
    Test { name: "heap_aligns_and_does_not_overlap", run: heap_aligns_and_does_not_overlap },
    Test { name: "heap_runs_out_as_an_error", run: heap_runs_out_as_an_error },
    Test {
        name: "no_kernel_page_is_writable_and_executable",
        run: no_kernel_page_is_writable_and_executable,
    },
    Test { name: "stacks_have_guard_pages", run: stacks_have_guard_pages },
    Test { name: "nvm_is_read_only_outside_windows", run: nvm_is_read_only_outside_windows },
    Test { name: "nvm_windows_write_and_are_counted", run: nvm_windows_write_and_are_counted },
    Test { name: "dram_region_reads_what_was_written", run: dram_region_reads_what_was_written },
];

fn frames_come_back_whole(_: &'static Boot) -> Result<(), String> {
    let before = frames::free_count();
    // Reserved first: the list's own growth must not change the count.
    let mut taken: Vec<(Frame, u8)> = Vec::with_capacity(400);
    let base = frames::free_count();
    for round in 0..400u32 {
        let order = (round * 7 % 11) as u8;
        let Some(frame) = frames::allocate_block(order, Claim::User) else { continue };
        check!(frame.number() % (1 << order) == 0, "{frame:?} isn't aligned to order {order}");
        taken.push((frame, order));
    }
    let mut ranges: Vec<_> =
        taken.iter().map(|&(f, order)| (f.number(), f.number() + (1 << order))).collect();
    ranges.sort_unstable();
    check!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "blocks overlap");
    let frames: u64 = ranges.iter().map(|range| range.1 - range.0).sum();
    drop(ranges);
    check!(frames::free_count() == base - frames);
    // Freed in another order than taken.
    while !taken.is_empty() {
        let (frame, order) = taken.swap_remove(taken.len() / 2);
        frames::free_block(frame, order);
    }
    drop(taken);
    check!(frames::free_count() == before, "{} of {before} are back", frames::free_count());
    let large = frames::allocate_block(ORDER_2M, Claim::User).ok_or("no 2 MiB block after merging")?;
    frames::free_block(large, ORDER_2M);
    Ok(())
}

fn frames_run_out_as_an_error(_: &'static Boot) -> Result<(), String> {
    let before = frames::free_count();
    let mut taken = Vec::with_capacity(4096);
    for order in (0..=ORDER_MAX).rev() {
        while taken.len() < taken.capacity()
            && let Some(frame) = frames::allocate_block(order, Claim::User)
        {
            taken.push((frame, order));
        }
    }
    let left = frames::free_count();
    let (user, kernel) = (frames::allocate(Claim::User), frames::allocate(Claim::Kernel));
    kernel.into_iter().for_each(frames::free);
    taken.drain(..).for_each(|(frame, order)| frames::free_block(frame, order));
    drop(taken);
    check!(user.is_none() && kernel.is_some());
    check!(left > 0 && left < before / 4);
    check!(frames::free_count() == before);
    Ok(())
}

fn frames_of_a_block_can_be_freed_singly(_: &'static Boot) -> Result<(), String> {
    let before = frames::free_count();
    let block = frames::allocate_block(3, Claim::User).ok_or("no block")?;
    frames::split_block(block, 3);
    for number in 0..8 {
        frames::free(Frame::of(block.address() + number * 4096));
    }
    check!(frames::free_count() == before);
    Ok(())
}

fn heap_aligns_and_does_not_overlap(_: &'static Boot) -> Result<(), String> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for size in (1..600).chain([4095, 4096, 4097, 70_000, 1 << 20]) {
        pieces.push(alloc::vec![size as u8; size]);
    }
    for (piece, size) in pieces.iter().zip((1..600).chain([4095, 4096, 4097, 70_000, 1 << 20])) {
        check!(
            piece.len() == size && piece.iter().all(|&byte| byte == size as u8),
            "piece of {size} was overwritten"
        );
    }
    #[repr(align(1024))]
    struct Aligned(#[allow(dead_code, reason = "only its place counts")] u8);
    let aligned = alloc::boxed::Box::new(Aligned(1));
    check!((core::ptr::from_ref(&*aligned) as usize).is_multiple_of(1024));
    Ok(())
}

fn heap_runs_out_as_an_error(_: &'static Boot) -> Result<(), String> {
    let mut vector: Vec<u8> = Vec::new();
    check!(vector.try_reserve_exact(1 << 40).is_err());
    check!(vector.try_reserve_exact(1 << 16).is_ok());
    Ok(())
}

fn no_kernel_page_is_writable_and_executable(_: &'static Boot) -> Result<(), String> {
    let mut executable = 0;
    let mut address: u64 = 1 << 63 | 0xffff << 47;
    while let Some((start, page)) = paging::next_mapping(address) {
        check!(!(page.writable && page.executable), "{start:#x} is");
        if page.executable {
            check!(paging::text().contains(&start), "{start:#x} is executable");
            executable += page.rest_bytes;
        }
        let Some(next) = start.checked_add(page.rest_bytes) else { break };
        address = next;
    }
    check!(executable == paging::text().end - paging::text().start);
    let alias = paging::translate(paging::text().start - paging::KERNEL_BASE + direct::BASE);
    check!(alias.is_some_and(|page| !page.writable));
    Ok(())
}

fn stacks_have_guard_pages(_: &'static Boot) -> Result<(), String> {
    for cpu in cpu::all() {
        let low = stacks::kernel_low(cpu.stack_top());
        check!(paging::translate(low).is_some_and(|page| page.writable));
        check!(paging::translate(low - 1).is_none() && paging::translate(cpu.stack_top()).is_none());
    }
    Ok(())
}

fn nvm_is_read_only_outside_windows(boot: &'static Boot) -> Result<(), String> {
    let Some(nvm) = boot.nvm else { return Ok(()) };
    for at in (0..nvm.len_bytes()).step_by(1 << 20) {
        let page = paging::translate(direct::BASE + nvm.base() + at);
        check!(
            page.is_some_and(|page| !page.writable && !page.executable && page.physical == nvm.base() + at)
        );
    }
    // A store must really fault: here, in the code that recovers from faults.
    let before = nvm.load(0);
    // SAFETY: the mapping was just found to be read-only.
    let stored = unsafe { user::store_word_anywhere(direct::BASE + nvm.base(), !before) };
    check!(stored.is_err());
    check!(nvm.load(0) == before);
    Ok(())
}

fn nvm_windows_write_and_are_counted(boot: &'static Boot) -> Result<(), String> {
    let Some(nvm) = boot.nvm else { return Ok(()) };
    let at = nvm.len_bytes() - 3 * 4096;
    let mut saved = alloc::vec![0; 2 * 4096];
    nvm.read(at, &mut saved);
    let before = nvm::counts();

    nvm.store(at + 8, 0x1234);
    let loaded = nvm.load(at + 8);
    let exchanged = (nvm.compare_exchange(at + 8, 0x1234, 5), nvm.compare_exchange(at + 8, 0x1234, 6));
    let bytes: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    nvm.write(at + 1001, &bytes);
    let mut back = alloc::vec![0; 5000];
    nvm.read(at + 1001, &mut back);
    nvm.zero(at + 4090, 14);
    let zeroed = (nvm.load(at + 4096), nvm.load(at + 4080) >> 56);
    nvm.flush(at + 63, 2);
    nvm.persist(at, 64);
    let after = nvm::counts();
    nvm.write(at, &saved);

    check!(loaded == 0x1234);
    check!(exchanged == (Ok(()), Err(5)));
    check!(back == bytes);
    check!(zeroed == (0, u64::from(bytes[4080 + 7 - 1001])));
    check!(after.flushes - before.flushes == 3 && after.fences - before.fences == 1);
    check!(after.written_bytes - before.written_bytes == 8 * 3 + 5000 + 14);
    check!(paging::translate(cpu::current().window.get().address as u64).is_none(), "the window stays open");
    Ok(())
}

fn dram_region_reads_what_was_written(_: &'static Boot) -> Result<(), String> {
    let frame = frames::allocate_zeroed(Claim::User).ok_or("no frame")?;
    let at = frame.address();
    let clean = (0..512).all(|word| DRAM.load(at + word * 8) == 0);
    DRAM.store(at, 7);
    DRAM.write(at + 9, &[1, 2, 3]);
    let mut back = [0; 4];
    DRAM.read(at + 9, &mut back);
    let exchanged = (DRAM.compare_exchange(at, 7, 8), DRAM.compare_exchange(at, 7, 9));
    DRAM.zero(at + 10, 1);
    let last = DRAM.load(at + 8);
    frames::free(frame);
    check!(clean && back == [1, 2, 3, 0] && exchanged == (Ok(()), Err(8)));
    check!(last == 0x0300_0100, "{}", format!("{last:#x}"));
    Ok(())
}
