//! What the first program does: it starts shells.

use twizzler_abi::Error;
use twizzler_rt::process::Program;
use twizzler_rt::thread::End;
use twizzler_rt::{call, console, eprintln, exit, println, system, system_word};

use crate::shell::{archived_program, fault_text, host_status};

/// Starts the shell, for a person or for the script that the host passed, and powers off with its status.
#[must_use]
pub fn run() -> u64 {
    let scripted = system::command_line().split_whitespace().any(|word| word == "script");
    let status = match archived_program("shell") {
        Some(Ok(program)) if scripted => shell(&program, &["shell", "-f", "script"]).0,
        Some(Ok(program)) => run_shells(&program),
        Some(Err(error)) => {
            eprintln!("init: can't load the shell: {error}");
            exit::NO_PROGRAM
        }
        None => {
            eprintln!("init: the boot archive has no shell");
            exit::NO_PROGRAM
        }
    };
    console::flush();
    if let Err(error) = call::power_off(host_status(status)) {
        eprintln!("init: can't power off: {error}");
    }
    status
}

/// Starts a shell, and another one whenever one dies, until one exits.
fn run_shells(program: &Program) -> u64 {
    greet();
    loop {
        match shell(program, &["shell"]) {
            (status, Died::No) => return status,
            (_, Died::Yes) => eprintln!("init: here is another one"),
        }
    }
}

/// Whether a shell ended against its will.
enum Died {
    Yes,
    No,
}

/// Runs one shell. Returns its status.
fn shell(program: &Program, arguments: &[&str]) -> (u64, Died) {
    match program.spawn(arguments, &[]).map(|mut shell| shell.wait_for_end()) {
        Ok(End::Exited(exit::PANIC)) if arguments.len() == 1 => {
            eprintln!("init: the shell panicked");
            (exit::PANIC, Died::Yes)
        }
        Ok(End::Exited(status)) => (status, Died::No),
        Ok(End::Fault { info, rip }) => {
            eprintln!("init: the shell ended by a fault: {}", fault_text(&info, rip));
            (exit::FAULT, Died::Yes)
        }
        Err(error) => {
            eprintln!("init: can't start the shell: {error}");
            (exit::NO_PROGRAM, Died::No)
        }
    }
}

fn greet() {
    println!("Twizzler {}. `help` tells what there is.", env!("CARGO_PKG_VERSION"));
    if system_word!(nvm_bytes) == 0 {
        let reason = u32::try_from(system_word!(nvm_error)).ok().and_then(Error::from_number);
        let reason = reason.map_or("there is none", Error::text);
        println!(
            "The NVM can't be used ({reason}), so nothing will outlive the power; `nvm` tells what to do."
        );
    }
    if system_word!(objects_quarantined) > 0 {
        println!(
            "{} damaged objects are in quarantine; `quarantine` lists them.",
            system_word!(objects_quarantined)
        );
    }
    console::flush();
}
