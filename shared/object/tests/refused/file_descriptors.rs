//! A file descriptor is a plain number, which is no reason to store it.

use std::os::fd::RawFd;

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: RawFd, //~ a file handle can't lie in an object
}

fn main() {}
