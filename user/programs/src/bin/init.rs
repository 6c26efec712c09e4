//! First program.
#![cfg_attr(target_os = "none", no_std, no_main)]
twizzler_rt::program!(run);
fn run() -> u64 {
    twizzler_rt::println!("hello {:?}", twizzler_rt::args::all());
    0
}
