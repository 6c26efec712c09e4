//! Programs that are libraries: `index` and `kv`.

use alloc::string::String;
use alloc::vec::Vec;

use twizzler_object::Space;
use twizzler_rt::{Rt, args, console, eprintln, exit};

/// Runs a command over the persistent objects, with the program's arguments.
#[must_use]
pub fn run(name: &str, command: fn(&Space<Rt>, &[&str]) -> u8) -> u64 {
    let space = match Space::attach(Rt) {
        Ok(space) => space,
        Err(error) => {
            eprintln!("{name}: persistent objects can't be used: {error}");
            return exit::FAILURE;
        }
    };
    let arguments = args::all();
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    u64::from(command(&space, &arguments))
}

/// Writes output.
pub fn out(bytes: &[u8]) {
    console::write(bytes);
}

/// Writes messages.
pub fn err(bytes: &[u8]) {
    console::write_message(bytes);
}
