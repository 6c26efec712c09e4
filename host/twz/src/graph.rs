//! Which objects lead to which.
//!
//! An object leads to the description of its type, and to every object whose ID lies among its bytes: in its FOT, as its owner or
//! companion, or anywhere in its data, aligned or not, as the words of an ID or of its number. That is *conservative*: an object that is said to be
//! unreachable is named nowhere; one that is said to be reachable may be named by memory that was freed. Random bytes are an
//! object's ID with a probability of 2^-128.

use std::collections::{HashMap, HashSet};

use indicatif::ProgressBar;
use twizzler_abi::object::{HEADER_OFFSET, Metadata};
use twizzler_abi::{Error, ObjId};
use twizzler_object::types::type_object;

use crate::medium::Medium;
use crate::object::metadata;

/// Bytes that are looked at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of an ID.
const ID_BYTES: usize = size_of::<ObjId>();

/// Finds IDs of existing objects among bytes.
#[derive(Debug)]
pub struct Finder {
    /// What follows the first word of an ID: for either order of its words.
    by_first: HashMap<u64, Vec<(u64, ObjId)>>,
    /// A bit for each value of a word's low bits; set where some ID begins so.
    filter: Vec<u64>,
    mask: u64,
}

impl Finder {
    /// Looks for these.
    #[must_use]
    pub fn new(ids: &[ObjId]) -> Self {
        let bits = (ids.len().max(64) * 64).next_power_of_two().min(1 << 26);
        let mut finder = Self { by_first: HashMap::new(), filter: vec![0; bits / 64], mask: bits as u64 - 1 };
        for &id in ids {
            for (first, second) in [(id.hi, id.lo), (id.lo, id.hi)] {
                finder.by_first.entry(first).or_default().push((second, id));
                let bit = first & finder.mask;
                finder.filter[(bit / 64) as usize] |= 1 << (bit % 64);
            }
        }
        finder
    }

    /// Calls for each ID in `bytes`.
    pub fn find(&self, bytes: &[u8], mut found: impl FnMut(ObjId)) {
        for window in bytes.windows(ID_BYTES) {
            let (first, second) = window.split_at(8);
            let first = u64::from_le_bytes(first.try_into().expect("half of a window"));
            let bit = first & self.mask;
            if self.filter[(bit / 64) as usize] >> (bit % 64) & 1 == 0 {
                continue;
            }
            let second = u64::from_le_bytes(second.try_into().expect("half of a window"));
            for &(follows, id) in self.by_first.get(&first).into_iter().flatten() {
                if follows == second {
                    found(id);
                }
            }
        }
    }
}

/// The objects that an object leads to.
///
/// # Errors
/// It can't be read.
pub fn leads_to<M: Medium>(
    medium: &M,
    finder: &Finder,
    id: ObjId,
    bar: &ProgressBar,
) -> Result<HashSet<ObjId>, Error> {
    let mut targets = HashSet::new();
    let Metadata { owner, fingerprint, .. } = metadata(medium, id)?;
    if !owner.is_none() {
        targets.insert(owner);
    }
    if fingerprint != 0 {
        targets.insert(type_object(fingerprint));
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    for extent in medium.extents(id)? {
        let mut at = extent.start.max(HEADER_OFFSET);
        while at < extent.end {
            let part = &mut chunk[..((extent.end - at) as usize).min(CHUNK_BYTES)];
            medium.read_raw(id, at, part)?;
            finder.find(part, |target| {
                targets.insert(target);
            });
            // Chunks overlap, for an ID that lies across their border.
            let step =
                if at + (part.len() as u64) < extent.end { part.len() - ID_BYTES + 1 } else { part.len() };
            at += step as u64;
            bar.inc(step as u64);
        }
    }
    targets.remove(&id);
    Ok(targets)
}

/// All objects that can be reached from `roots`, these too. Whatever can't be read is in `unread`: what it leads to is not known.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// The objects.
    pub objects: HashSet<ObjId>,
    /// Those of them that could not be read, and why.
    pub unread: Vec<(ObjId, Error)>,
}

/// Follows all that `roots` lead to, among the objects `all`. The store's own objects are not followed: their names are roots, and
/// what their freed memory or an old record names counts for nothing.
#[must_use]
pub fn reach<M: Medium>(
    medium: &M,
    all: &[ObjId],
    roots: impl IntoIterator<Item = ObjId>,
    bar: &ProgressBar,
) -> Reached {
    let existing: HashSet<ObjId> = all.iter().copied().collect();
    let finder = Finder::new(all);
    let mut reached = Reached::default();
    let mut rest: Vec<ObjId> = roots.into_iter().collect();
    while let Some(id) = rest.pop() {
        if !existing.contains(&id) || !reached.objects.insert(id) {
            continue;
        }
        if metadata(medium, id).is_ok_and(|found| is_of_the_system(found.nonce)) {
            continue;
        }
        match leads_to(medium, &finder, id, bar) {
            Ok(targets) => rest.extend(targets),
            Err(error) => reached.unread.push((id, error)),
        }
    }
    reached
}

/// Whether programs find an object without a name: its nonce is a text that someone chose, as for the names themselves. A random
/// nonce looks like one with a probability of about 10^-7; such an object just counts as a root.
#[must_use]
pub fn is_well_known(nonce: [u8; 16]) -> bool {
    nonce != [0; 16] && nonce.iter().all(|&byte| byte == 0 || byte == b' ' || byte.is_ascii_graphic())
}

/// Whether an object is the store's own: its names, lanes and their directory.
#[must_use]
pub fn is_of_the_system(nonce: [u8; 16]) -> bool {
    is_well_known(nonce) && nonce.starts_with(b"twizzler ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_wherever_they_lie_in_either_order() {
        let ids = [ObjId::new(0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00), ObjId::new(7 << 64 | 5)];
        let finder = Finder::new(&ids);
        for at in 0..20 {
            for id in ids {
                let by_words = [id.hi.to_le_bytes(), id.lo.to_le_bytes()].concat();
                for text in [by_words, id.get().to_le_bytes().to_vec()] {
                    let mut bytes = vec![0xee; 64];
                    bytes[at..at + 16].copy_from_slice(&text);
                    let mut found = Vec::new();
                    finder.find(&bytes, |id| found.push(id));
                    assert_eq!(found, [id], "at {at}");
                }
            }
        }
        finder.find(&[0x5a; 100], |id| panic!("{id} is not there"));
        finder.find(&[0; 15], |id| panic!("{id} does not fit"));
    }

    #[test]
    fn chosen_nonces_are_told_from_random_ones() {
        assert!(is_well_known(*b"twizzler names\0\0") && is_of_the_system(*b"twizzler lane 07"));
        assert!(is_well_known(*b"a program's root"));
        assert!(!is_of_the_system(*b"some other root\0"));
        assert!(!is_well_known([0; 16]) && !is_well_known([0x80; 16]));
    }
}
