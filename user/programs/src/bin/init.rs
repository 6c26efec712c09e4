//! The first program: runs the script that the host passed, or shells for people, and powers off.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

twizzler_rt::program!(twizzler_programs::init::run);
