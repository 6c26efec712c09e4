//! Random bytes: a BLAKE3 pool, fed by RDRAND where there is one and by the TSC's jitter, read by its output stream.
//!
//! Without RDRAND, and with a quiet boot, the bytes are unpredictable only as far as timing is: see `docs/caveats.md`.

use core::arch::asm;

use blake3::Hasher;

use super::lock::{Lock, level};
use super::{clock, features};

struct Pool {
    key: [u8; 32],
    count: u64,
}

static POOL: Lock<Pool, { level::RANDOM }> = Lock::new(Pool { key: [0; 32], count: 0 });
/// Samples that the pool starts with.
const SAMPLES: usize = 64;

/// Mixes bytes in: what is unpredictable, or at least differs between boots and machines.
pub(crate) fn stir(bytes: &[u8]) {
    let mut pool = POOL.lock();
    let mut hasher = Hasher::new_keyed(&pool.key);
    hasher.update(bytes).update(&clock::tsc().to_le_bytes());
    pool.key = hasher.finalize().into();
}

/// Fills a buffer with random bytes.
pub(crate) fn fill(buffer: &mut [u8]) {
    let mut pool = POOL.lock();
    let mut hasher = Hasher::new_keyed(&pool.key);
    hasher.update(&pool.count.to_le_bytes()).update(&clock::tsc().to_le_bytes());
    hasher.update(&rdrand().unwrap_or(0).to_le_bytes());
    let mut output = hasher.finalize_xof();
    // The key is replaced first: what has been handed out can't be computed from a later state.
    output.fill(&mut pool.key);
    pool.count += 1;
    drop(pool);
    output.fill(buffer);
}

/// Gathers what this machine offers.
pub(super) fn init() {
    let mut samples = [0; SAMPLES * 16];
    for sample in samples.chunks_exact_mut(16) {
        let random = rdrand().unwrap_or(0);
        sample[..8].copy_from_slice(&random.to_le_bytes());
        sample[8..].copy_from_slice(&clock::tsc().to_le_bytes());
    }
    stir(&samples);
    stir(&clock::epoch_s().to_le_bytes());
}

/// A word of the CPU's generator; it may fail for a while (Intel SDM volume 1, section 7.3.17.1: try 10 times).
fn rdrand() -> Option<u64> {
    if !features::get().rdrand {
        return None;
    }
    (0..10).find_map(|_| {
        let (value, ok): (u64, u8);
        // SAFETY: CPUID has RDRAND; it changes one register and flags.
        unsafe { asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack)) };
        (ok != 0).then_some(value)
    })
}
