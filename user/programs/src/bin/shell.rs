//! The shell.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::string::String;

use twizzler_object::Space;
use twizzler_programs::shell::{Shell, Style};
use twizzler_rt::{Rt, args, exit};

twizzler_rt::program!(run);

/// `shell` talks to a person; `shell -c LINE...` runs lines.
fn run() -> u64 {
    let space = Space::attach(Rt);
    let space = space.as_ref().map_err(|&error| error);
    let arguments = args::all();
    match arguments.iter().map(String::as_str).collect::<alloc::vec::Vec<_>>().as_slice() {
        [] | [_] => Shell::new(space, Style::Terminal).interact(),
        [_, "-c", lines @ ..] => Shell::new(space, Style::Script).run_script(&lines.join("\n")),
        _ => {
            twizzler_rt::eprintln!("usage: shell [-c LINE...]");
            exit::USAGE
        }
    }
}
