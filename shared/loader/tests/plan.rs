//! Programs that load, and every way in which a file is none.

use proptest::prelude::*;
use twizzler_abi::address::{SLOT_BYTES, band};
use twizzler_abi::object::BASE_OFFSET;
use twizzler_loader::{LoadError, Part, Plan};

const TEXT: u64 = band::TEXT.base() + BASE_OFFSET;
const DATA: u64 = band::DATA.base() + BASE_OFFSET;
const LOAD: u32 = 1;
const X: u32 = 1;
const W: u32 = 2;
const R: u32 = 4;

#[derive(Clone, Copy)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    bytes: u64,
}

const fn load(flags: u32, address: u64, file_bytes: u64, bytes: u64) -> Header {
    Header { kind: LOAD, flags, offset: 0x1000, address, file_bytes, bytes }
}

/// A file of 8 KiB with these program headers.
fn elf(entry: u64, headers: &[Header]) -> Vec<u8> {
    let mut file = vec![0; 0x2000];
    file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &(headers.len() as u16).to_le_bytes());
    for (i, h) in headers.iter().enumerate() {
        let at = 64 + 56 * i;
        put(at, &h.kind.to_le_bytes());
        put(at + 4, &h.flags.to_le_bytes());
        for (j, word) in [h.offset, h.address, h.address, h.file_bytes, h.bytes, 16].into_iter().enumerate() {
            put(at + 8 + 8 * j, &word.to_le_bytes());
        }
    }
    file
}

fn good() -> Vec<u8> {
    elf(TEXT + 0x10, &[load(R | X, TEXT, 0x800, 0x800), load(R | W, DATA, 0x100, 0x5000)])
}

fn refused(headers: &[Header]) -> LoadError {
    Plan::new(&elf(TEXT, headers)).expect_err("must be refused")
}

#[test]
fn a_program_is_planned() {
    let plan = Plan::new(&good()).expect("good");
    let segments: Vec<_> = plan.segments().collect();
    assert_eq!(plan.entry, TEXT + 0x10);
    assert_eq!(segments.len(), 2);
    assert_eq!((segments[0].part, segments[0].offset, segments[0].bytes), (Part::Text, BASE_OFFSET, 0x800));
    assert_eq!(segments[0].file_range(), 0x1000..0x1800);
    assert_eq!((segments[1].part, segments[1].file_bytes, segments[1].bytes), (Part::Data, 0x100, 0x5000));
    assert_eq!((plan.end(Part::Text), plan.end(Part::Data)), (BASE_OFFSET + 0x800, BASE_OFFSET + 0x5000));
}

#[test]
fn constants_may_share_the_text_object() {
    let file = elf(TEXT, &[load(R | X, TEXT, 0x100, 0x100), load(R, TEXT + 0x100, 0x80, 0x80)]);
    assert_eq!(Plan::new(&file).expect("good").segments().count(), 2);
}

#[test]
fn each_wrong_header_field_is_named() {
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        Plan::new(&file).expect_err("must be refused")
    };
    assert_eq!(with(0, b"#!/b"), LoadError::NotElf);
    assert_eq!(with(4, &[1]), LoadError::NotClass64);
    assert_eq!(with(4, &[9]), LoadError::NotClass64);
    assert_eq!(with(5, &[2]), LoadError::NotLittleEndian);
    assert_eq!(with(6, &[0]), LoadError::BadVersion);
    assert_eq!(with(16, &[3]), LoadError::NotExecutable(3));
    assert_eq!(with(18, &[40]), LoadError::WrongMachine(40));
    assert_eq!(with(20, &[7]), LoadError::BadVersion);
    assert_eq!(with(24, &DATA.to_le_bytes()), LoadError::BadEntry { address: DATA });
    assert_eq!(with(24, &(TEXT + 0x800).to_le_bytes()), LoadError::BadEntry { address: TEXT + 0x800 });
    assert_eq!(with(24, &[0; 8]), LoadError::BadEntry { address: 0 });
    assert_eq!(with(32, &[0; 8]), LoadError::NoSegments);
    assert_eq!(with(32, &[0xff; 8]), LoadError::Truncated);
    assert_eq!(with(54, &[32]), LoadError::BadHeaderSize(32));
    assert_eq!(with(56, &[0, 0]), LoadError::NoSegments);
    assert_eq!(with(56, &[0xff, 0xff]), LoadError::Truncated);
}

#[test]
fn each_wrong_segment_is_named() {
    let text = load(R | X, TEXT, 0x100, 0x100);
    let at = |address| load(R, address, 0, 1);
    let outside = |address| LoadError::OutsideSlots { address };
    for address in [0, TEXT - 1, band::TEXT.base(), DATA - 1, band::VIEW.base(), 1 << 47, u64::MAX] {
        assert_eq!(refused(&[text, at(address)]), outside(address), "{address:#x}");
    }
    assert_eq!(refused(&[text, load(R | W, DATA, 0, SLOT_BYTES)]), outside(DATA));
    assert_eq!(refused(&[text, load(R | W, DATA, 0, u64::MAX)]), outside(DATA));
    assert_eq!(refused(&[load(R | W | X, TEXT, 1, 1)]), LoadError::BadRights { address: TEXT });
    assert_eq!(refused(&[load(R | W, TEXT, 1, 1)]), LoadError::BadRights { address: TEXT });
    assert_eq!(refused(&[text, load(R | W | X, DATA, 1, 1)]), LoadError::BadRights { address: DATA });
    assert_eq!(refused(&[text, load(R | W, DATA, 2, 1)]), LoadError::FileLargerThanMemory { address: DATA });
    assert_eq!(refused(&[text, load(R | W, DATA, 0x1001, 0x2000)]), LoadError::Truncated);
    assert_eq!(
        refused(&[text, Header { offset: u64::MAX, ..load(R | W, DATA, 9, 9) }]),
        LoadError::Truncated
    );
    assert_eq!(refused(&[text, load(R, TEXT + 0xff, 0, 1)]), LoadError::Overlap { address: TEXT + 0xff });
    assert_eq!(refused(&[text, Header { kind: 2, ..text }]), LoadError::Dynamic);
    assert_eq!(refused(&[text, Header { kind: 3, ..text }]), LoadError::Dynamic);
    assert_eq!(refused(&[load(R, TEXT, 0x100, 0x100)]), LoadError::BadEntry { address: TEXT });
    assert_eq!(refused(&[load(R | X, TEXT, 0, 0x100)]), LoadError::BadEntry { address: TEXT });
    let many: Vec<_> = (0..9).map(|i| load(R | X, TEXT + i * 0x10, 0x10, 0x10)).collect();
    assert_eq!(refused(&many), LoadError::TooManySegments);
    assert_eq!(refused(&[Header { kind: 4, ..text }]), LoadError::NoSegments);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = good();
    for len in 0..0x1800 {
        assert!(Plan::new(&file[..len]).is_err(), "cut at {len}");
    }
    assert!(Plan::new(&file[..0x1800]).is_ok());
}

#[test]
fn the_head_is_enough() {
    let file = good();
    assert_eq!(Plan::of_head(&file[..0x200], file.len() as u64), Plan::new(&file));
    assert_eq!(Plan::of_head(&file[..0x200], 0x1700), Err(LoadError::Truncated));
    assert_eq!(Plan::of_head(&file[..0x50], file.len() as u64), Err(LoadError::HeadersFar));
}

/// What every plan promises to whoever carries it out.
fn assert_sound(file: &[u8]) {
    let Ok(plan) = Plan::new(file) else { return };
    let mut places = Vec::new();
    for s in plan.segments() {
        assert!(file.get(s.file_range()).is_some());
        assert!(
            s.file_bytes as u64 <= s.bytes && s.offset >= BASE_OFFSET && s.offset + s.bytes <= SLOT_BYTES
        );
        places.push((s.part.slot(), s.offset, s.offset + s.bytes));
    }
    places.sort_unstable();
    assert!(places.windows(2).all(|w| w[0].0 != w[1].0 || w[0].2 <= w[1].1));
    assert!((TEXT..band::DATA.base()).contains(&plan.entry));
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), Just(TEXT), Just(DATA), Just(SLOT_BYTES), 0..0x3000u64, any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        assert_sound(&bytes);
        let mut file = good();
        file[7..7 + bytes.len()].copy_from_slice(&bytes);
        assert_sound(&file);
    }

    #[test]
    fn mutated_programs_never_panic(changes in prop::collection::vec((0usize..200, any::<u8>()), 1..6)) {
        let mut file = good();
        for (at, byte) in changes {
            file[at] = byte;
        }
        assert_sound(&file);
    }

    #[test]
    fn hostile_headers_never_panic(
        entry in word(),
        headers in prop::collection::vec((0u32..5, 0u32..8, word(), word(), word(), word()), 0..10),
    ) {
        let headers: Vec<_> = headers
            .into_iter()
            .map(|(kind, flags, offset, address, file_bytes, bytes)| {
                Header { kind, flags, offset, address, file_bytes, bytes }
            })
            .collect();
        assert_sound(&elf(entry, &headers));
    }
}
