//! The ring in pools of libpmemobj; the loops are in `c/pmem_hop.c`.

use std::ffi::{CString, c_char};
use std::marker::{PhantomData, PhantomPinned};
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use anyhow::{Result, bail};

use super::ring::Ring;

/// What C keeps.
#[repr(C)]
struct Opaque {
    nothing: [u8; 0],
    marker: PhantomData<(*mut u8, PhantomPinned)>,
}

// SAFETY: as `c/pmem_hop.c` defines them.
unsafe extern "C" {
    fn hop_open(
        paths: *const *const c_char,
        pools: u32,
        nodes: u32,
        visits: *const u64,
        len: u64,
    ) -> *mut Opaque;
    fn hop_close(ring: *mut Opaque);
    fn hop_direct(ring: *mut Opaque, number: u64) -> u64;
    fn hop_base(ring: *mut Opaque, number: u64) -> u64;
    fn hop_bases(ring: *mut Opaque, number: u64) -> u64;
    fn hop_raw(ring: *mut Opaque, number: u64) -> u64;
}

/// How a pointer is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// `pmemobj_direct` of a 16-byte pointer.
    Direct,
    /// An offset from the base of the only pool.
    Base,
    /// An offset, and a table of the pools' bases.
    Bases,
    /// A plain pointer.
    Raw,
}

/// The pools of a ring.
pub(super) struct Pools(NonNull<Opaque>);

impl Pools {
    /// Makes them in `folder`, which lies in memory.
    pub(super) fn new(folder: &Path, ring: &Ring) -> Result<Self> {
        let names: Vec<CString> = (0..ring.objects)
            .map(|pool| CString::new(folder.join(format!("pool{pool}")).as_os_str().as_encoded_bytes()))
            .collect::<Result<_, _>>()?;
        let paths: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let visits: Vec<u64> =
            ring.visits.iter().map(|place| u64::from(place.object) << 32 | u64::from(place.index)).collect();
        // SAFETY: the paths, as many as pools, are C strings; the visits are of those pools and nodes.
        let made = unsafe {
            hop_open(paths.as_ptr(), ring.objects, ring.nodes, visits.as_ptr(), visits.len() as u64)
        };
        let Some(made) = NonNull::new(made) else {
            bail!("libpmemobj makes no pools in {}", folder.display())
        };
        Ok(Self(made))
    }

    pub(super) fn chase(&self, way: Way, number: u64) -> Duration {
        let ring = self.0.as_ptr();
        let ns = match way {
            // SAFETY: an open ring.
            Way::Direct => unsafe { hop_direct(ring, number) },
            // SAFETY: as above.
            Way::Base => unsafe { hop_base(ring, number) },
            // SAFETY: as above.
            Way::Bases => unsafe { hop_bases(ring, number) },
            // SAFETY: as above.
            Way::Raw => unsafe { hop_raw(ring, number) },
        };
        Duration::from_nanos(ns)
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        // SAFETY: an open ring, which nobody uses any more.
        unsafe { hop_close(self.0.as_ptr()) };
    }
}
