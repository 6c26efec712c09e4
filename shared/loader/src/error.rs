//! Why a file is not a program.

use core::fmt;

/// What is wrong with a file that was to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The file does not start like an ELF file.
    NotElf,
    /// The file ends before what its headers describe.
    Truncated,
    /// It is not a 64-bit file.
    NotClass64,
    /// It is not little-endian.
    NotLittleEndian,
    /// A version that doesn't exist.
    BadVersion,
    /// It is for another kind of processor: the ELF number of that.
    WrongMachine(u16),
    /// It is not a fixed-address executable: the ELF type that it has.
    NotExecutable(u16),
    /// It wants a dynamic linker or relocation.
    Dynamic,
    /// Its program headers have another size than ELF64's.
    BadHeaderSize(u16),
    /// Its program headers are not at its start.
    HeadersFar,
    /// It has no segments to load.
    NoSegments,
    /// It has more segments than [`crate::SEGMENTS_MAX`].
    TooManySegments,
    /// A segment is larger in the file than in memory.
    FileLargerThanMemory {
        /// Where the segment was to go.
        address: u64,
    },
    /// A segment does not lie within the text or data slot, from base + 0x3000 on.
    OutsideSlots {
        /// Where the segment was to go.
        address: u64,
    },
    /// A segment asks for rights that its slot does not give: writable text, executable data, or both at once.
    BadRights {
        /// Where the segment was to go.
        address: u64,
    },
    /// Two segments lie on each other.
    Overlap {
        /// Where the second of them was to go.
        address: u64,
    },
    /// The entry point is not in the initialised part of an executable segment.
    BadEntry {
        /// The entry point.
        address: u64,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotElf => f.write_str("not an ELF program"),
            Self::Truncated => f.write_str("the program's file is truncated"),
            Self::NotClass64 => f.write_str("not a 64-bit program"),
            Self::NotLittleEndian => f.write_str("not a little-endian program"),
            Self::BadVersion => f.write_str("unknown ELF version"),
            Self::WrongMachine(machine) => write!(f, "made for another processor (ELF machine {machine})"),
            Self::NotExecutable(kind) => write!(f, "not a fixed-address executable (ELF type {kind})"),
            Self::Dynamic => f.write_str("the program wants dynamic linking"),
            Self::BadHeaderSize(bytes) => write!(f, "program headers of {bytes} bytes, not 56"),
            Self::HeadersFar => f.write_str("the program headers are not at the file's start"),
            Self::NoSegments => f.write_str("the program has nothing to load"),
            Self::TooManySegments => f.write_str("the program has too many segments"),
            Self::FileLargerThanMemory { address } => {
                write!(f, "the segment at {address:#x} is larger in the file than in memory")
            }
            Self::OutsideSlots { address } => {
                write!(f, "the segment at {address:#x} is outside the text and data slots")
            }
            Self::BadRights { address } => {
                write!(f, "the segment at {address:#x} asks for rights that its slot does not give")
            }
            Self::Overlap { address } => write!(f, "the segment at {address:#x} overlaps another"),
            Self::BadEntry { address } => {
                write!(f, "the entry point {address:#x} is not in the program's text")
            }
        }
    }
}

impl core::error::Error for LoadError {}
