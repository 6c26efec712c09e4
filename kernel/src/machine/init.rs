//! The boot CPU's way from the first Rust instruction to the first thread.

use core::arch::naked_asm;

use spin::Once;

use super::start_info::{self, Boot, Parsed};
use super::{acpi, apic, clock, cpu, entry, features, idt, random, serial, smp, timer};
use crate::memory::nvm::Nvm;

static PARSED: Once<Parsed> = Once::new();
static BOOT: Once<Boot> = Once::new();

/// Called by the entry code on the boot stack, with the boot tables.
#[unsafe(no_mangle)]
extern "C" fn boot_main(start_info: u64) -> ! {
    clock::start();
    serial::init();
    crate::log::init();
    let parsed = PARSED.call_once(|| start_info::parse(start_info));
    log::info!("twizzler {}: {}", env!("CARGO_PKG_VERSION"), parsed.command_line);
    features::detect();
    crate::memory::start::init(parsed);
    features::enable();
    apic::init();
    smp::init_boot_cpu();
    // SAFETY: the top of this CPU's own stack, which nobody is on.
    unsafe { change_stack(cpu::current().stack_top()) }
}

/// Goes on in [`start`] on another stack.
///
/// # Safety
/// `top` must be the top of an unused stack.
#[unsafe(naked)]
unsafe extern "C" fn change_stack(top: u64) -> ! {
    naked_asm!("mov rsp, rdi", "xor ebp, ebp", "call {}", "ud2", sym start)
}

extern "C" fn start() -> ! {
    let parsed = PARSED.get().expect("parsed in `boot_main`");
    let archive = start_info::archive(&parsed.archive);
    crate::panic::set_archive(archive);
    let platform = acpi::read(parsed.rsdp);
    clock::calibrate(features::get().tsc_hz, platform.pm_timer, timer::measure);
    timer::init();
    random::init();
    log::info!("cpu: {:?}", features::get());
    if let Some(line) = platform.console {
        apic::route(line, idt::CONSOLE, cpu::current().apic_id());
        serial::enable_console_interrupts();
    } else {
        log::warn!("console: no interrupt line: input will not be heard");
    }
    if platform.nvm.len() > 1 {
        log::warn!("nvm: {} ranges, of which the first is used", platform.nvm.len());
    }
    let nvm = platform.nvm.first().map(Nvm::map);
    match &platform.nvm[..] {
        [] => log::info!("nvm: none"),
        [range, ..] => log::info!("nvm: {} MiB at {:#x}", (range.end - range.start) >> 20, range.start),
    }
    smp::start(platform.apic_ids.iter().copied());
    let boot = BOOT.call_once(|| Boot {
        command_line: parsed.command_line,
        archive,
        nvm,
        before_kernel_ns: clock::since_reset_ns() - clock::now_ns(),
    });
    if boot.has_word("script") {
        serial::keep_errors_apart();
    }
    entry::install(&crate::thread::entry::HOOKS);
    (entry::hooks().start)(boot);
    if boot.value("test").is_some() {
        crate::test::run(boot);
    }
    smp::go();
    entry::run(cpu::current())
}
