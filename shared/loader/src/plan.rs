//! From a file's headers to a plan that needs no further checks.

use core::ops::Range;

use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, ELF64_EHDR_TAILSIZE, FileHeader, parse_ident};
use elf::parse::ParseError;
use elf::segment::{ProgramHeader, SegmentTable};
use twizzler_abi::Rights;
use twizzler_abi::address::{SLOT_BYTES, Slot, band};
use twizzler_abi::object::BASE_OFFSET;

use crate::error::LoadError;

/// Most segments that a program may have.
pub const SEGMENTS_MAX: usize = 8;
/// Bytes of a file that [`Plan::of_head`] is to be given, or all where there are fewer.
pub const HEAD_BYTES: usize = 4096;
/// Bytes of an ELF64 program header.
const HEADER_BYTES: u16 = 56;

/// Which of a program's two objects something goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Instructions and constants.
    Text,
    /// Initialised and zeroed statics.
    Data,
}

impl Part {
    /// Where the part's object is mapped.
    #[must_use]
    pub const fn slot(self) -> Slot {
        match self {
            Self::Text => band::TEXT,
            Self::Data => band::DATA,
        }
    }

    /// The rights that the part's object is mapped with.
    #[must_use]
    pub const fn rights(self) -> Rights {
        match self {
            Self::Text => Rights::READ.union(Rights::EXECUTE),
            Self::Data => Rights::READ.union(Rights::WRITE),
        }
    }
}

/// Bytes of the file that go to one place. What `bytes` exceeds the file's range by is zeros, which new
/// objects hold already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The object.
    pub part: Part,
    /// First byte in the object; at least [`BASE_OFFSET`].
    pub offset: u64,
    /// Bytes in memory; `offset + bytes` is within a small object.
    pub bytes: u64,
    /// First byte in the file.
    pub file_start: usize,
    /// Bytes in the file, at most `bytes`.
    pub file_bytes: usize,
    executable: bool,
}

impl Segment {
    /// The file's bytes that the segment starts with: in range for the file that the plan was made from.
    #[must_use]
    pub const fn file_range(&self) -> Range<usize> {
        self.file_start..self.file_start + self.file_bytes
    }

    const fn offsets(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes
    }
}

/// How a program is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Address of the first instruction.
    pub entry: u64,
    segments: [Option<Segment>; SEGMENTS_MAX],
}

impl Plan {
    /// Checks an ELF file and plans how it is mapped.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(file: &[u8]) -> Result<Self, LoadError> {
        Self::of_head(file, file.len() as u64)
    }

    /// The same from the first bytes of a file of `file_bytes`. Those of [`HEAD_BYTES`] are enough for what
    /// compilers make.
    ///
    /// # Errors
    /// What is wrong with the file; [`LoadError::HeadersFar`] where its program headers are not in its head.
    pub fn of_head(head: &[u8], file_bytes: u64) -> Result<Self, LoadError> {
        let header = header(head)?;
        let mut plan = Self { entry: header.e_entry, segments: [None; SEGMENTS_MAX] };
        let mut used = 0;
        for entry in program_headers(head, file_bytes, &header)?.iter() {
            let Some(segment) = segment(file_bytes, &entry)? else { continue };
            if plan.segments().any(|other| overlap(other, &segment)) {
                return Err(LoadError::Overlap { address: entry.p_vaddr });
            }
            *plan.segments.get_mut(used).ok_or(LoadError::TooManySegments)? = Some(segment);
            used += 1;
        }
        if used == 0 {
            return Err(LoadError::NoSegments);
        }
        plan.check_entry()?;
        Ok(plan)
    }

    /// The segments, in the file's order. No two overlap.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().flatten()
    }

    /// Bytes from the start of a part's object to the end of its last segment; 0 where the program has none.
    #[must_use]
    pub fn end(&self, part: Part) -> u64 {
        self.segments().filter(|s| s.part == part).map(|s| s.offsets().end).max().unwrap_or(0)
    }

    fn check_entry(&self) -> Result<(), LoadError> {
        let in_text = |s: &Segment| {
            let start = s.part.slot().base() + s.offset;
            s.executable && (start..start + s.file_bytes as u64).contains(&self.entry)
        };
        if self.segments().any(in_text) { Ok(()) } else { Err(LoadError::BadEntry { address: self.entry }) }
    }
}

fn overlap(a: &Segment, b: &Segment) -> bool {
    a.part == b.part && a.offset < b.offsets().end && b.offset < a.offsets().end
}

/// The file header, checked to be one of a static program for this machine. Section headers are not
/// looked at: a stripped file has none.
fn header(file: &[u8]) -> Result<FileHeader<LittleEndian>, LoadError> {
    if !file.starts_with(&abi::ELFMAGIC) {
        return Err(LoadError::NotElf);
    }
    let (ident, rest) = file.split_at_checked(abi::EI_NIDENT).ok_or(LoadError::Truncated)?;
    let ident = parse_ident::<LittleEndian>(ident).map_err(ident_error)?;
    if ident.1 != Class::ELF64 {
        return Err(LoadError::NotClass64);
    }
    let tail = rest.get(..ELF64_EHDR_TAILSIZE).ok_or(LoadError::Truncated)?;
    let header = FileHeader::parse_tail(ident, tail).map_err(|_| LoadError::Truncated)?;
    if header.e_machine != abi::EM_X86_64 {
        return Err(LoadError::WrongMachine(header.e_machine));
    }
    if header.e_type != abi::ET_EXEC {
        return Err(LoadError::NotExecutable(header.e_type));
    }
    if header.version != u32::from(abi::EV_CURRENT) {
        return Err(LoadError::BadVersion);
    }
    Ok(header)
}

fn ident_error(error: ParseError) -> LoadError {
    match error {
        ParseError::BadMagic(_) => LoadError::NotElf,
        ParseError::UnsupportedElfClass(_) => LoadError::NotClass64,
        ParseError::UnsupportedElfEndianness(_) => LoadError::NotLittleEndian,
        ParseError::UnsupportedVersion(_) => LoadError::BadVersion,
        _ => LoadError::Truncated,
    }
}

fn program_headers<'a>(
    head: &'a [u8],
    file_bytes: u64,
    header: &FileHeader<LittleEndian>,
) -> Result<SegmentTable<'a, LittleEndian>, LoadError> {
    if header.e_phnum == 0 || header.e_phoff == 0 {
        return Err(LoadError::NoSegments);
    }
    if header.e_phentsize != HEADER_BYTES {
        return Err(LoadError::BadHeaderSize(header.e_phentsize));
    }
    let bytes = u64::from(header.e_phnum) * u64::from(HEADER_BYTES);
    let range = file_range(file_bytes, header.e_phoff, bytes)?;
    let headers = head.get(range).ok_or(LoadError::HeadersFar)?;
    Ok(SegmentTable::new(LittleEndian, Class::ELF64, headers))
}

/// The range as one of the file, if it lies in there.
fn file_range(file_bytes: u64, start: u64, bytes: u64) -> Result<Range<usize>, LoadError> {
    let end = start.checked_add(bytes).filter(|&end| end <= file_bytes).ok_or(LoadError::Truncated)?;
    let start = usize::try_from(start).map_err(|_| LoadError::Truncated)?;
    let end = usize::try_from(end).map_err(|_| LoadError::Truncated)?;
    Ok(start..end)
}

/// What a program header asks for; None for what needs no memory.
fn segment(file_bytes: u64, header: &ProgramHeader) -> Result<Option<Segment>, LoadError> {
    match header.p_type {
        abi::PT_LOAD if header.p_memsz > 0 => {}
        abi::PT_DYNAMIC | abi::PT_INTERP => return Err(LoadError::Dynamic),
        _ => return Ok(None),
    }
    let address = header.p_vaddr;
    if header.p_filesz > header.p_memsz {
        return Err(LoadError::FileLargerThanMemory { address });
    }
    let part = part(header)?;
    let file = file_range(file_bytes, header.p_offset, header.p_filesz)?;
    Ok(Some(Segment {
        part,
        offset: address - part.slot().base(),
        bytes: header.p_memsz,
        file_start: file.start,
        file_bytes: file.len(),
        executable: header.p_flags & abi::PF_X != 0,
    }))
}

/// The part that the header's addresses wholly lie in, if its rights are that part's.
fn part(header: &ProgramHeader) -> Result<Part, LoadError> {
    let address = header.p_vaddr;
    let outside = LoadError::OutsideSlots { address };
    let end = address.checked_add(header.p_memsz).ok_or(outside)?;
    let part = [Part::Text, Part::Data]
        .into_iter()
        .find(|part| {
            let base = part.slot().base();
            (base + BASE_OFFSET..base + SLOT_BYTES).contains(&address) && end <= base + SLOT_BYTES
        })
        .ok_or(outside)?;
    let forbidden = match part {
        Part::Text => abi::PF_W,
        Part::Data => abi::PF_X,
    };
    if header.p_flags & forbidden != 0 { Err(LoadError::BadRights { address }) } else { Ok(part) }
}
