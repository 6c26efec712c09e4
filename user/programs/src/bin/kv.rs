//! The command `kv`.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

use twizzler_kv::Streams;
use twizzler_programs::tool;

twizzler_rt::program!(run);

fn run() -> u64 {
    tool::run("kv", |space, arguments| {
        twizzler_kv::run(space, arguments, &mut Streams { out: &mut tool::out, err: &mut tool::err })
    })
}
