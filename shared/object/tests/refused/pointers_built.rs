//! Nor can a pointer be made of bits, or taken apart into them.

use twizzler_object::InvPtr;

fn destructure(stray: InvPtr<u64>) -> u64 {
    let InvPtr { bits, .. } = stray; //~ field `bits` of struct `InvPtr` is private
    bits.0
}

fn build() -> InvPtr<u64> {
    InvPtr { bits: twizzler_abi::pointer::PointerBits(0x3000), target: std::marker::PhantomData } //~ fields `bits` and `target` of struct `InvPtr` are private
}

fn main() {}
