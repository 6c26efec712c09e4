//! Resolved pointers, and all else that is good only while a guard lives.

use twizzler_object::{Area, Object, Ptr, Span, Stored};

#[derive(Stored)]
#[stored(name = "test.holder", version = 1)]
#[repr(C)]
struct Holder {
    a: Ptr<'static, u64>, //~ it is good in this program
    b: Span<'static, u64>, //~ it is good in this program
    c: Area<'static>, //~ it is good in this program
    d: Object<'static, u64>, //~ it is good in this program
}

fn main() {}
