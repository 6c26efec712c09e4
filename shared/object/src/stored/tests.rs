//! Fingerprints of the derived types, and their stored forms.

use alloc::vec::Vec;

use super::*;
use crate::{Field, InvPtr, Stored, StoredEnum};

macro_rules! stored {
    ($($name:ident $text:literal $version:literal { $($field:ident: $type:ty,)+ })+) => { $(
        #[derive(Stored)]
        #[stored(name = $text, version = $version)]
        #[repr(C)]
        struct $name { $($field: $type,)+ }
    )+ };
}

stored! {
    One "test.record" 1 { a: u64, b: [u32; 2], }
    Renamed "test.record" 1 { a: u64, c: [u32; 2], }
    Newer "test.record" 2 { a: u64, b: [u32; 2], }
    Retyped "test.record" 1 { a: u64, b: [u16; 4], }
    Reordered "test.record" 1 { b: [u32; 2], a: u64, }
    ToOne "test.pointer" 1 { to: InvPtr<One>, }
    ToOther "test.pointer" 1 { to: InvPtr<ToOne>, }
}

#[test]
fn each_part_of_a_declaration_changes_the_fingerprint() {
    let all = [
        One::FINGERPRINT,
        Renamed::FINGERPRINT,
        Newer::FINGERPRINT,
        Retyped::FINGERPRINT,
        Reordered::FINGERPRINT,
        ToOne::FINGERPRINT,
        ToOther::FINGERPRINT,
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b));
    }
}

#[test]
fn fingerprints_are_made_of_name_version_size_and_fields() {
    assert_eq!(
        One::FINGERPRINT,
        Fingerprint::new("test.record", 1)
            .word(16)
            .text("a")
            .word(0)
            .word(u64::FINGERPRINT)
            .text("b")
            .word(8)
            .word(<[u32; 2]>::FINGERPRINT)
            .finish()
    );
}

/// An edition with new keywords makes some names raw, and must not make other types of them.
#[test]
fn raw_names_are_names() {
    #[derive(Stored)]
    #[stored(name = "test.raw", version = 1)]
    #[repr(C)]
    struct Raw {
        r#type: u64,
    }
    #[derive(StoredEnum, Clone, Copy)]
    #[stored(name = "test.raw-choice", version = 1)]
    #[repr(u8)]
    #[expect(non_camel_case_types)]
    enum RawChoice {
        r#type,
    }
    let named = Fingerprint::new("test.raw", 1).word(8).text("type").word(0).word(u64::FINGERPRINT);
    assert_eq!((Raw::FINGERPRINT, Raw::r#type.offset()), (named.finish(), 0));
    let choice = Fingerprint::new("test.raw-choice", 1).word(1).text("type").word(0);
    assert_eq!(RawChoice::FINGERPRINT, choice.finish());
    assert_eq!(RawChoice::VARIANTS, [("type", 0)]);
}

/// Objects carry these numbers for ever.
#[test]
fn fingerprints_do_not_drift() {
    let all = [
        u64::FINGERPRINT,
        <[u32; 2]>::FINGERPRINT,
        One::FINGERPRINT,
        ToOne::FINGERPRINT,
        Node::<u64>::FINGERPRINT,
        Choice::<Colour>::FINGERPRINT,
        Flag::FINGERPRINT,
        Metres::FINGERPRINT,
    ];
    let golden = [
        0xbc8f_fd1a_d380_20b2,
        0x2964_8c2e_4c77_fab7,
        0x8df7_dbce_c0b0_1619,
        0xc920_f578_7003_3991,
        0x771e_c8bb_1545_b9a9,
        0x5d4c_f230_fcea_667e,
        0xc248_7f5c_9f1f_5d24,
        0xbae5_810b_a37b_eb5b,
    ];
    assert_eq!(all, golden);
}

#[derive(Stored)]
#[stored(name = "test.node", version = 1)]
#[repr(C)]
struct Node<T> {
    next: InvPtr<Node<T>>,
    value: T,
}

#[derive(Stored, Clone, Copy)]
#[stored(name = "test.metres", version = 1)]
#[repr(transparent)]
struct Metres(u64);

#[derive(Stored)]
#[stored(name = "test.matrix", version = 1)]
#[repr(C)]
struct Matrix<T: Copy, const N: usize> {
    rows: [[T; N]; N],
    to: InvPtr<Self>,
}

#[test]
fn types_with_parameters_differ_by_their_arguments() {
    assert_ne!(Node::<u64>::FINGERPRINT, Node::<i64>::FINGERPRINT);
    assert_ne!(InvPtr::<Node<u64>>::FINGERPRINT, InvPtr::<Node<i64>>::FINGERPRINT);
    assert_ne!(Matrix::<u64, 2>::FINGERPRINT, Matrix::<u64, 3>::FINGERPRINT);
    assert_ne!(InvPtr::<Matrix<u64, 2>>::FINGERPRINT, InvPtr::<Matrix<u64, 3>>::FINGERPRINT);
    assert_ne!(InvPtr::<InvPtr<u64>>::FINGERPRINT, InvPtr::<InvPtr<i64>>::FINGERPRINT);
    let value: Field<Node<[u64; 2]>, [u64; 2]> = Node::value;
    assert_eq!((value.offset(), Node::<u8>::next.offset()), (8, 0));
    assert_eq!(Matrix::<u64, 3>::to.offset(), 72);
}

#[test]
fn the_field_of_a_new_type_is_inner() {
    assert_eq!(Metres::inner.offset(), 0);
    assert_eq!(Metres(3).0, 3);
}

#[derive(StoredEnum, Clone, Copy, PartialEq, Debug)]
#[stored(name = "test.colour", version = 1)]
#[repr(u16)]
enum Colour {
    None,
    Red = 700,
    Green,
}

#[test]
fn a_choice_reads_as_its_variant_or_damaged() {
    for colour in [Colour::None, Colour::Red, Colour::Green] {
        assert_eq!(Choice::new(colour).get(), Ok(colour));
    }
    let numbers: Vec<u64> = Colour::VARIANTS.iter().map(|&(_, number)| number).collect();
    assert_eq!(numbers, [0, 700, 701]);
    let mut choice = Choice::new(Colour::Red);
    crate::memory::bytes_of_mut(&mut choice).copy_from_slice(&9u16.to_ne_bytes());
    assert_eq!(choice.get(), Err(Damaged { name: "test.colour", number: 9 }));
    assert_eq!(alloc::format!("{choice:?}"), "damaged: 9 is no test.colour");
}

#[test]
fn any_byte_is_a_flag() {
    for byte in 0..=u8::MAX {
        let mut flag = Flag::CLEAR;
        crate::memory::bytes_of_mut(&mut flag)[0] = byte;
        assert_eq!(flag.is_set(), byte != 0);
        assert_eq!(flag, Flag::from(byte != 0));
    }
}
