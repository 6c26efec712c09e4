//! The first program, and all that share its file.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

twizzler_rt::program!(twizzler_programs::bundle::run);
