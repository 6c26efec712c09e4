//! The command `index`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

use twizzler_index::Streams;
use twizzler_programs::tool;

twizzler_rt::program!(run);

fn run() -> u64 {
    tool::run("index", |space, arguments| {
        twizzler_index::run(space, arguments, &mut Streams { out: &mut tool::out, err: &mut tool::err })
    })
}
