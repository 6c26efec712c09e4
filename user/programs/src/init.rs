//! What the first program does: a script, or shells.

use alloc::string::String;

use twizzler_abi::Error;
use twizzler_object::Space;
use twizzler_rt::thread::End;
use twizzler_rt::{Rt, call, console, eprintln, exit, println, system, system_word};

use crate::shell::{Shell, Style, archived_file, archived_program, fault_text, host_status};

/// Runs the script or shells, and powers off with the status of the last command.
#[must_use]
pub fn run() -> u64 {
    let scripted = system::command_line().split_whitespace().any(|word| word == "script");
    let status = if scripted { run_script() } else { run_shells() };
    console::flush();
    if let Err(error) = call::power_off(host_status(status)) {
        eprintln!("init: can't power off: {error}");
    }
    status
}

fn run_script() -> u64 {
    let Some(script) = archived_file("script") else {
        eprintln!("init: the boot archive has no script");
        return exit::NO_PROGRAM;
    };
    let Ok(script) = String::from_utf8(script) else {
        eprintln!("init: the script is not UTF-8");
        return exit::USAGE;
    };
    let space = Space::attach(Rt);
    let space = space.as_ref().map_err(|&error| error);
    Shell::new(space, Style::Script).run_script(&script)
}

/// Starts a shell, and another one whenever one dies, until one exits.
fn run_shells() -> u64 {
    let program = match archived_program("shell") {
        Some(Ok(program)) => program,
        Some(Err(error)) => {
            eprintln!("init: can't load the shell: {error}");
            return exit::NO_PROGRAM;
        }
        None => {
            eprintln!("init: the boot archive has no shell");
            return exit::NO_PROGRAM;
        }
    };
    greet();
    loop {
        let mut shell = match program.spawn(&["shell"], &[]) {
            Ok(shell) => shell,
            Err(error) => {
                eprintln!("init: can't start the shell: {error}");
                return exit::NO_PROGRAM;
            }
        };
        match shell.wait_for_end() {
            End::Exited(status) if status != exit::PANIC => return status,
            End::Exited(_) => eprintln!("init: the shell panicked; here is another one"),
            End::Fault { info, rip } => {
                eprintln!("init: the shell ended by a fault: {}", fault_text(&info, rip));
                eprintln!("init: here is another one");
            }
        }
    }
}

fn greet() {
    println!("Twizzler {}. `help` tells what there is.", env!("CARGO_PKG_VERSION"));
    if system_word!(nvm_bytes) == 0 {
        let reason = u32::try_from(system_word!(nvm_error)).ok().and_then(Error::from_number);
        let reason = reason.map_or("there is none", Error::text);
        println!("The NVM can't be used ({reason}), so nothing will outlive the power.");
    }
    if system_word!(objects_quarantined) > 0 {
        println!(
            "{} damaged objects are in quarantine; `quarantine` lists them.",
            system_word!(objects_quarantined)
        );
    }
    console::flush();
}
