//! Tests the system from a program's side.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

twizzler_rt::program!(twizzler_programs::selftest::run);
