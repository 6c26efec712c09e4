//! Limits of the host that a mapping can run into.

use std::fs;
use std::io;

use twizzler_abi::Error;

use crate::objects::system;

/// Mappings that one object takes: null page, metadata, the rest.
const MAPPINGS_OF_AN_OBJECT: usize = 3;

/// What a failed mapping means: no address space and no memory are one error of the host, and so is too many mappings.
pub(crate) fn mapping_error(error: &io::Error) -> Error {
    match system(error) {
        Error::OutOfMemory if are_mappings_used_up() => Error::TooMany,
        other => other,
    }
}

/// True if the process has about as many mappings as the host allows (`vm.max_map_count`).
fn are_mappings_used_up() -> bool {
    let allowed =
        fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse().ok());
    let used =
        fs::read("/proc/self/maps").map_or(0, |text| text.iter().filter(|&&byte| byte == b'\n').count());
    allowed.is_some_and(|allowed: usize| used + 2 * MAPPINGS_OF_AN_OBJECT >= allowed)
}
