//! Where the machine half enters this one.

use super::{current, fault, scheduler, wait};
use crate::call;
use crate::machine::cpu::Cpu;
use crate::machine::entry::{Access, Hooks, Interrupt, Trap, UserContext};
use crate::object::system;

/// To be installed before the first thread runs.
pub(crate) static HOOKS: Hooks = Hooks {
    call: on_call,
    fault: on_fault,
    interrupt: on_interrupt,
    schedule: scheduler::schedule,
    resolve: on_touch,
    start: crate::init::start,
};

fn on_call(cpu: &'static Cpu, context: &mut UserContext) {
    system::count(system::Counter::Calls);
    call::dispatch(cpu, &current(cpu), context);
}

fn on_fault(cpu: &'static Cpu, context: &mut UserContext, trap: Trap) {
    fault::trap(cpu, context, trap);
}

fn on_interrupt(cpu: &'static Cpu, interrupt: Interrupt) {
    scheduler::decide_anew(cpu.index());
    match interrupt {
        Interrupt::Timer | Interrupt::Reschedule => {}
        Interrupt::Console => {
            system::note_console_interrupts();
            scheduler::wake(wait::CONSOLE, u64::MAX);
        }
    }
}

/// The kernel touched user memory on behalf of the current thread.
fn on_touch(cpu: &'static Cpu, address: u64, access: Access) -> bool {
    super::table::running(cpu).is_some_and(|thread| fault::page(&thread, address, access).is_ok())
}
