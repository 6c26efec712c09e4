//! What the loader tells: Xen's `hvm_start_info`, as QEMU fills it in.
//!
//! Source: Xen `xen/include/public/arch-x86/hvm/start_info.h`. The structures lie in memory that nobody reuses before
//! [`parse`] has copied them; the boot archive is taken out of what the frame allocator gets.

use core::ops::Range;
use core::slice;

use crate::memory::direct;
use crate::memory::nvm::Nvm;

const MAGIC: u32 = 0x336e_c578;
/// Most entries of the memory map that are read.
pub(crate) const REGIONS_MAX: usize = 64;
const COMMAND_LINE_BYTES_MAX: usize = 1024;

#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    address: u64,
    len_bytes: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    address: u64,
    len_bytes: u64,
    kind: u32,
    reserved: u32,
}

const RAM: u32 = 1;

/// What the kernel above gets to know about the start.
pub(crate) struct Boot {
    /// The kernel's command line.
    pub(crate) command_line: &'static str,
    /// The boot archive, as it lies in memory; page-aligned with QEMU. Empty: there is none.
    pub(crate) archive: &'static [u8],
    /// The machine's NVM, if there is any.
    pub(crate) nvm: Option<Nvm>,
    /// Nanoseconds from the CPU's reset to the kernel's entry, if its TSC started at 0.
    pub(crate) before_kernel_ns: u64,
}

impl Boot {
    /// Whether the command line has this word.
    #[must_use]
    pub(crate) fn has_word(&self, word: &str) -> bool {
        self.command_line.split_ascii_whitespace().any(|w| w == word)
    }

    /// The value of a word `key=value` of the command line.
    #[must_use]
    pub(crate) fn value(&self, key: &str) -> Option<&'static str> {
        self.command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The parsed structures.
pub(crate) struct Parsed {
    pub(crate) command_line: &'static str,
    pub(crate) archive: Range<u64>,
    pub(crate) rsdp: u64,
    regions: [Range<u64>; REGIONS_MAX],
    count: usize,
}

impl Parsed {
    /// Ranges of RAM, as the loader lists them.
    pub(crate) fn ram(&self) -> &[Range<u64>] {
        &self.regions[..self.count]
    }
}

static COMMAND_LINE: spin::Once<([u8; COMMAND_LINE_BYTES_MAX], usize)> = spin::Once::new();

/// Reads the structures. The loader is trusted: what it names is there.
///
/// # Panics
/// If this isn't a start info: then nothing is known about the machine.
pub(crate) fn parse(address: u64) -> Parsed {
    let info: StartInfo = read(address);
    assert_eq!(info.magic, MAGIC, "started by a loader that doesn't speak PVH");
    let mut parsed = Parsed {
        command_line: "",
        archive: 0..0,
        rsdp: info.rsdp,
        regions: [const { 0..0 }; REGIONS_MAX],
        count: 0,
    };
    if info.command_line != 0 {
        parsed.command_line = read_command_line(info.command_line);
    }
    if info.module_count > 0 {
        let module: Module = read(info.modules);
        parsed.archive = module.address..module.address.saturating_add(module.len_bytes);
    }
    let entries = if info.version >= 1 { u64::from(info.memory_map_entries) } else { 0 };
    for index in 0..entries {
        let entry: MapEntry = read(info.memory_map + index * size_of::<MapEntry>() as u64);
        if entry.kind == RAM && parsed.count < REGIONS_MAX {
            parsed.regions[parsed.count] = entry.address..entry.address.saturating_add(entry.len_bytes);
            parsed.count += 1;
        }
    }
    parsed
}

fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the loader wrote a `T` (plain integers) there, below 4 GiB, which the boot tables map.
    unsafe { direct::pointer(address).cast::<T>().read_unaligned() }
}

fn read_command_line(address: u64) -> &'static str {
    let (bytes, len) = COMMAND_LINE.call_once(|| {
        let mut bytes = [0; COMMAND_LINE_BYTES_MAX];
        let mut len = 0;
        while len < bytes.len() {
            bytes[len] = read(address + len as u64);
            if bytes[len] == 0 {
                break;
            }
            len += 1;
        }
        (bytes, len)
    });
    core::str::from_utf8(&bytes[..*len]).unwrap_or_else(|error| {
        core::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to there")
    })
}

/// The archive's bytes.
pub(crate) fn archive(range: &Range<u64>) -> &'static [u8] {
    let len = (range.end - range.start) as usize;
    if len == 0 {
        return &[];
    }
    // SAFETY: the loader put the module there; it is RAM (or was mapped for this), kept out of the frame allocator, and
    // nobody writes to it.
    unsafe { slice::from_raw_parts(direct::pointer(range.start), len) }
}
