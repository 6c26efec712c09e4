//! Shows what happens to a program that does wrong: it ends, with a message, and nothing else does.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;

use twizzler_abi::address::{PAGE_BYTES, band};
use twizzler_abi::call::{ControlOp, USUAL_RIGHTS};
use twizzler_abi::object::{BASE_OFFSET, METADATA_OFFSET};
use twizzler_abi::rights::ObjectFlags;
use twizzler_abi::thread::UpcallFrame;
use twizzler_abi::{Error, ObjId, Rights, SizeClass};
use twizzler_rt::mapping::Mapping;
use twizzler_rt::upcall::{self, Verdict};
use twizzler_rt::{args, call, eprintln, exit, println, slots, startup};

twizzler_rt::program!(run);

/// A way to go wrong.
type Wrong = fn() -> Result<(), Error>;

const WRONGS: &[(&str, &str, Wrong)] = &[
    ("null", "loads from an object's null page", null),
    ("unmapped", "loads where nothing is mapped", unmapped),
    ("object", "maps an object that does not exist", object),
    ("right", "stores to an object that is mapped for reading", right),
    ("metadata", "stores to an object's metadata", metadata),
    ("text", "stores to its own instructions", text),
    ("execute", "runs its own data", execute),
    ("range", "loads from a page that was forbidden", range),
    ("stack", "recurses without end", stack),
    ("kernel", "loads from the kernel's half", kernel),
    ("wild", "loads from an address that can't exist", wild),
    ("illegal", "runs an instruction that does not exist", illegal),
    ("privileged", "runs an instruction of the kernel's", privileged),
    ("divide", "divides by zero", divide),
    ("breakpoint", "runs into a breakpoint", breakpoint),
    ("view", "writes nonsense to its view", view),
    ("memory", "uses all memory", memory),
    ("panic", "panics", panics),
    ("handled", "handles the fault itself and goes on", handled),
];

fn run() -> u64 {
    let arguments = args::all();
    let wrong = match arguments.as_slice() {
        [_, name] => WRONGS.iter().find(|(wrong, ..)| wrong == name),
        _ => None,
    };
    let Some((name, _, wrong)) = wrong else {
        eprintln!("usage: fault KIND");
        WRONGS.iter().for_each(|(name, about, _)| eprintln!("  {name:<12}{about}"));
        return exit::USAGE;
    };
    match wrong() {
        Ok(()) if *name == "handled" => exit::SUCCESS,
        Ok(()) => {
            eprintln!("fault: {name}: nothing happened, which is wrong");
            exit::FAILURE
        }
        Err(error) => {
            eprintln!("fault: {name}: {error}");
            exit::FAILURE
        }
    }
}

/// Loads a byte from anywhere.
fn load(address: u64) -> u8 {
    let byte;
    // SAFETY: a load that the compiler can't see changes nothing; where it may not be made, it is the fault asked for.
    unsafe { asm!("mov {}, [{}]", out(reg_byte) byte, in(reg) address, options(nostack, readonly)) };
    byte
}

/// Stores to memory that must refuse it.
fn store(address: u64) {
    // SAFETY: callers name memory that can't be written; if it could, the program would end at once, having lost a byte.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) address, options(nostack)) };
}

fn volatile(rights: Rights) -> Result<Mapping, Error> {
    let id = call::create(ObjectFlags::empty(), USUAL_RIGHTS)?;
    startup::own(id);
    Mapping::new(id, rights)
}

fn null() -> Result<(), Error> {
    let mapping = volatile(Rights::READ)?;
    load(mapping.address() + 8);
    Ok(())
}

fn unmapped() -> Result<(), Error> {
    load(slots::take(SizeClass::Small)?.base() + BASE_OFFSET);
    Ok(())
}

fn object() -> Result<(), Error> {
    let mapping = Mapping::unchecked(ObjId::new(0x1234_5678), Rights::READ)?;
    load(mapping.address() + BASE_OFFSET);
    Ok(())
}

fn right() -> Result<(), Error> {
    let mapping = volatile(Rights::READ)?;
    store(mapping.address() + BASE_OFFSET);
    Ok(())
}

fn metadata() -> Result<(), Error> {
    let mapping = volatile(Rights::READ | Rights::WRITE)?;
    store(mapping.address() + METADATA_OFFSET);
    Ok(())
}

fn text() -> Result<(), Error> {
    store(band::TEXT.base() + BASE_OFFSET);
    Ok(())
}

fn execute() -> Result<(), Error> {
    let code = Box::new(0xc3_u8);
    let code: *const u8 = &raw const *code;
    // SAFETY: the fetch is the fault asked for; the byte is a return, should it be run after all.
    unsafe { asm!("call {}", in(reg) code, clobber_abi("sysv64")) };
    Ok(())
}

fn range() -> Result<(), Error> {
    let mapping = volatile(Rights::READ)?;
    call::control(ControlOp::Forbid, mapping.id(), BASE_OFFSET, PAGE_BYTES)?;
    load(mapping.address() + BASE_OFFSET);
    Ok(())
}

#[expect(unconditional_recursion, reason = "the fault asked for")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(frame[1] + 1) + frame[2]
}

fn stack() -> Result<(), Error> {
    black_box(recurse(0));
    Ok(())
}

fn kernel() -> Result<(), Error> {
    load(0xffff_ffff_8020_0000);
    Ok(())
}

fn wild() -> Result<(), Error> {
    load(0x0123_4567_89ab_cdef);
    Ok(())
}

fn illegal() -> Result<(), Error> {
    // SAFETY: the exception is the fault asked for.
    unsafe { asm!("ud2") };
    Ok(())
}

fn privileged() -> Result<(), Error> {
    // SAFETY: refused in ring 3, which is the fault asked for.
    unsafe { asm!("cli") };
    Ok(())
}

fn divide() -> Result<(), Error> {
    // SAFETY: the exception is the fault asked for.
    unsafe { asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) };
    Ok(())
}

fn breakpoint() -> Result<(), Error> {
    // SAFETY: the trap is the fault asked for.
    unsafe { asm!("int3") };
    Ok(())
}

fn view() -> Result<(), Error> {
    let slot = slots::take(SizeClass::Small)?;
    slots::set_entry(slot, ObjId::new(1), Rights::from_bits_retain(0xffff));
    load(slot.base() + BASE_OFFSET);
    Ok(())
}

fn memory() -> Result<(), Error> {
    const PART_BYTES: u64 = 16 << 20;
    let mut mappings = Vec::new();
    // Most of it by few calls, then page by page.
    let last = loop {
        let mapping = volatile(Rights::READ | Rights::WRITE)?;
        let populated = call::control(ControlOp::Populate, mapping.id(), BASE_OFFSET, PART_BYTES);
        mappings.push(mapping);
        if populated.is_err() {
            break volatile(Rights::READ | Rights::WRITE)?;
        }
    };
    for offset in (BASE_OFFSET..1 << 30).step_by(PAGE_BYTES as usize) {
        last.write(offset, &[1]);
    }
    Ok(())
}

fn panics() -> Result<(), Error> {
    let nothing: Option<u64> = black_box(None);
    nothing.expect("this program panics because it was asked to");
    Ok(())
}

/// Lets the thread go on at the address that it left in RBX.
fn skip(frame: &mut UpcallFrame) -> Verdict {
    frame.registers.rip = frame.registers.rbx;
    frame.registers.rax = frame.fault.address;
    Verdict::Resume
}

fn handled() -> Result<(), Error> {
    upcall::handle(skip)?;
    let address: u64;
    // SAFETY: the load faults; the handler goes on behind it, with RAX as the fault's address.
    unsafe {
        asm!(
            "mov {saved}, rbx",
            "lea rbx, [rip + 2f]",
            "mov al, [rdi]",
            "2:",
            "mov rbx, {saved}",
            saved = out(reg) _,
            in("rdi") 0x1000_u64,
            out("rax") address,
        );
    }
    println!("handled a fault at {address:#x} and went on");
    upcall::unhandle()
}
