//! Making what was written to persistent objects durable.

use twizzler_pmem::cache::WriteBack;
pub use twizzler_pmem::cache::fence;

/// Starts writing back every line that holds a byte of the range.
///
/// Flushing reads memory but changes none. The range must be mapped, as for a load: otherwise it is a fault.
pub fn flush(address: u64, len_bytes: u64) {
    WriteBack::detect().flush(address, len_bytes);
}
