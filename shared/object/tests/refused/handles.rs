//! What means something only in one run of one program, or is laid out as a library likes.

use std::fs::File;
use std::net::TcpStream;
use std::time::{Instant, SystemTime};

use twizzler_object::Stored;

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: File, //~ it is a handle
    b: TcpStream, //~ it is a handle
    c: Instant, //~ its layout is the standard library's choice
    d: SystemTime, //~ its layout is the standard library's choice
}

fn main() {}
