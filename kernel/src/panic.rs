//! The kernel's end when it finds itself wrong: message, backtrace, status 100.

use core::fmt::{Arguments, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;

use crate::log::Unlocked;
use crate::machine::entry_asm::KernelFrame;
use crate::machine::{apic, cpu, power, serial};
use crate::memory::{paging, stacks};

/// The boot archive, in which the kernel's symbols lie.
static ARCHIVE: Once<&'static [u8]> = Once::new();
static PANICKING: AtomicBool = AtomicBool::new(false);
/// Frames that are shown.
const DEPTH_MAX: usize = 32;

/// Tells where symbols may be found.
pub(crate) fn set_archive(archive: &'static [u8]) {
    ARCHIVE.call_once(|| archive);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let rbp: u64;
    // SAFETY: reads a register; the kernel is compiled with frame pointers.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    match info.location() {
        Some(at) => end(format_args!("{} ({}:{})", info.message(), at.file(), at.line()), None, rbp),
        None => end(format_args!("{}", info.message()), None, rbp),
    }
}

/// An exception in the kernel that nothing accounts for.
pub(crate) fn exception(frame: &KernelFrame, address: u64) -> ! {
    let what = if stacks::is_guard(address) { "kernel stack overflow: " } else { "" };
    end(
        format_args!(
            "{what}exception {} in the kernel, error {:#x}, address {address:#x}\n{frame:#x?}",
            frame.vector, frame.error
        ),
        Some(frame.rip),
        frame.rbp,
    )
}

/// Stops this CPU for good if another one panics.
pub(crate) fn stop_if_panicking() {
    if PANICKING.load(Ordering::SeqCst) {
        power::halt();
    }
}

fn end(message: Arguments<'_>, rip: Option<u64>, rbp: u64) -> ! {
    x86_64::instructions::interrupts::disable();
    if PANICKING.swap(true, Ordering::SeqCst) {
        // A panic in the panic, or a second CPU's: the first one's report goes on, or has got stuck.
        power::off(power::STATUS_PANIC);
    }
    if cpu::count() > 1 {
        apic::send_nmi_to_others();
    }
    let ports: &'static [&'static serial::Serial] =
        if core::ptr::eq(serial::errors(), serial::console()) { &PORTS[..2] } else { &PORTS };
    let mut out = Unlocked(ports);
    // Writing to ports doesn't fail.
    let _ = writeln!(out, "\r\nkernel panic on CPU {}: {message}", cpu::index_or_0());
    if let Some(rip) = rip {
        line(&mut out, 0, rip);
    }
    backtrace(&mut out, rbp);
    power::off(power::STATUS_PANIC)
}

static PORTS: [&serial::Serial; 3] = [serial::log(), serial::console(), serial::com3()];

fn backtrace(out: &mut Unlocked, mut rbp: u64) {
    for depth in 1..DEPTH_MAX {
        let Some([next, return_address]) = frame_at(rbp) else { return };
        if !paging::text().contains(&return_address) {
            return;
        }
        line(out, depth, return_address);
        // Frames lie at ascending addresses; anything else is damage.
        if next <= rbp {
            return;
        }
        rbp = next;
    }
}

/// What a frame pointer points to, if it can be one.
fn frame_at(rbp: u64) -> Option<[u64; 2]> {
    let plausible = rbp.is_multiple_of(8) && rbp >= 1 << 63 && paging::translate(rbp)?.rest_bytes >= 16;
    // SAFETY: mapped, aligned, and within one page.
    plausible.then(|| unsafe { (rbp as *const [u64; 2]).read_volatile() })
}

fn line(out: &mut Unlocked, depth: usize, address: u64) {
    let _ = match symbol(address) {
        Some((name, offset)) => writeln!(out, "{depth:4}: {address:#x} {name}+{offset:#x}"),
        None => writeln!(out, "{depth:4}: {address:#x}"),
    };
}

/// Name of the function that an address lies in, and the distance from its start.
fn symbol(address: u64) -> Option<(&'static str, u64)> {
    let symbols = core::str::from_utf8(file(ARCHIVE.get()?, "kernel.symbols")?).ok()?;
    symbols.lines().rev().find_map(|line| {
        let (start, name) = line.split_once(' ')?;
        Some((name, address.checked_sub(u64::from_str_radix(start, 16).ok()?)?))
    })
}

/// A file of a ustar archive. Source: POSIX.1-2017, `pax`, "ustar Interchange Format".
fn file(mut archive: &'static [u8], name: &str) -> Option<&'static [u8]> {
    loop {
        let (header, rest) = archive.split_at_checked(512)?;
        let text = |bytes: &'static [u8]| {
            core::str::from_utf8(bytes).ok().map(|text| text.trim_matches(['\0', ' ']))
        };
        let bytes = usize::from_str_radix(text(&header[124..136])?, 8).ok()?;
        if text(&header[..100])? == name {
            return rest.get(..bytes);
        }
        archive = rest.get(bytes.next_multiple_of(512)..)?;
    }
}
