//! What a fault in user mode leads to: a page is mapped, a handler is called, or the thread ends.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use twizzler_abi::ObjId;
use twizzler_abi::thread::{ACCESS_FETCH, ACCESS_WRITE, FaultInfo, FaultKind};

use super::end::{self, Ending};
use super::{Thread, current, upcall};
use crate::machine::cpu::Cpu;
use crate::machine::entry::{Access, PAGE_FAULT, Trap, UserContext};
use crate::view::fault::{Resolved, resolve};

/// How often in a row a fault may find that everything is as it should be: then another CPU has just
/// made it so, as it may do often while it unmaps and maps again. Very many mean that the CPU and the kernel
/// don't agree on what is mapped.
const IDLE_FAULTS_MAX: u32 = 1 << 20;

/// A trap in user mode.
pub(super) fn trap(cpu: &'static Cpu, context: &mut UserContext, trap: Trap) {
    let thread = current(cpu);
    let fault = if trap.vector == PAGE_FAULT {
        let access = trap.access();
        match page(&thread, trap.address, access) {
            Ok(()) => return,
            Err(fault) => fault,
        }
    } else {
        FaultInfo {
            kind: kind_of(trap.vector) as u32,
            access: 0,
            address: context.registers.rip,
            object: ObjId::NONE,
        }
    };
    if !upcall::deliver(cpu, &thread, context, fault) {
        report(&thread, &fault, context.registers.rip);
        end::end_current(cpu, &thread, Ending { exit_code: 0, fault });
    }
}

/// Maps what a user, or the kernel on a user's behalf, has touched.
pub(super) fn page(thread: &Arc<Thread>, address: u64, access: Access) -> Result<(), FaultInfo> {
    let resolved = resolve(&thread.view, address, access, thread.stack_low);
    let fault =
        |kind: FaultKind, object| FaultInfo { kind: kind as u32, access: bits(access), address, object };
    match resolved {
        Ok(Resolved::Changed) => {
            thread.idle_faults.store(0, Ordering::Relaxed);
            Ok(())
        }
        Ok(Resolved::NothingToDo) => {
            let same = thread.idle_fault.swap(address, Ordering::Relaxed) == address;
            let times = if same { thread.idle_faults.load(Ordering::Relaxed) + 1 } else { 0 };
            thread.idle_faults.store(times, Ordering::Relaxed);
            if times > IDLE_FAULTS_MAX { Err(fault(FaultKind::Protection, ObjId::NONE)) } else { Ok(()) }
        }
        Err((kind, object)) => Err(fault(kind, object)),
    }
}

fn bits(access: Access) -> u32 {
    match access {
        Access::Read => 0,
        Access::Write => ACCESS_WRITE,
        Access::Fetch => ACCESS_FETCH,
    }
}

/// Vectors of Intel SDM volume 3, table 6-1.
fn kind_of(vector: u8) -> FaultKind {
    match vector {
        0 | 4 => FaultKind::Arithmetic,
        1 | 3 => FaultKind::Breakpoint,
        5..=7 => FaultKind::IllegalInstruction,
        16 | 19 => FaultKind::FloatingPoint,
        _ => FaultKind::Protection,
    }
}

fn report(thread: &Thread, fault: &FaultInfo, rip: u64) {
    let text = FaultKind::try_from(fault.kind).map_or("fault", FaultKind::text);
    let access = match fault.access {
        0 => "read",
        ACCESS_WRITE => "write",
        _ => "fetch",
    };
    ::log::warn!(
        "thread {} ended: {text}: {access} at {:#x}, object {}, instruction {rip:#x}",
        thread.object.id,
        fault.address,
        fault.object
    );
}
