//! Makes one segment of several, so that a search touches few, and drops what is dead.

use alloc::vec::Vec;

use twizzler_abi::Error;
use twizzler_object::{Backend, Object, Tx};

use crate::base::SegmentBase;
use crate::build::SegmentWriter;
use crate::catalog::{Dead, Listed};
use crate::cursor::Merged;
use crate::postings::{Postings, Writer};
use crate::segment::{Header, Segment};

/// Segments of about the same size that are tolerated.
const WIDTH: usize = 4;
/// Size up to which all segments are of the first tier.
const TIER_BYTES: u64 = 64 << 10;

/// Which segments are to be merged now, by number; empty: none.
///
/// Sizes are cut into tiers, each four times the one before; as soon as a tier has [`WIDTH`] segments they become one. So there are
/// at most three for each tier, and what is added is written again about once for each tier. A segment of which more than half is dead
/// is written again alone.
pub(crate) fn choose(segments: &[Listed]) -> Vec<usize> {
    let tier = |s: &Listed| {
        let mut tier = 0;
        while s.numbers.bytes >> (2 * tier) > TIER_BYTES {
            tier += 1;
        }
        tier
    };
    let of_tier = |t: u32| (0..segments.len()).filter(move |&i| tier(&segments[i]) == t);
    let wasted = (0..segments.len()).find(|&i| segments[i].dead.count > segments[i].numbers.documents / 2);
    let crowded = (0..32).find(|&t| of_tier(t).count() >= WIDTH);
    match (crowded, wasted) {
        (Some(t), _) => of_tier(t).collect(),
        (None, Some(i)) => [i].into(),
        (None, None) => Vec::new(),
    }
}

/// Writes a new segment with the living documents of the given ones.
pub(crate) fn merge<'s, B: Backend>(
    tx: &mut Tx<'s, B>,
    parts: &[(&Segment<'s, B>, &Dead)],
) -> Result<(Object<'s, SegmentBase>, Header), Error> {
    let mut documents = Vec::new();
    let mut numbers = Vec::new();
    for (segment, dead) in parts {
        let mut map = Vec::with_capacity(segment.header.documents as usize);
        for i in 0..segment.header.documents {
            if dead.has(i) {
                map.push(None);
            } else {
                map.push(Some(u32::try_from(documents.len()).map_err(|_| Error::TooMany)?));
                documents.push(segment.document(i)?);
            }
        }
        numbers.push(map);
    }
    let size: u64 = parts.iter().map(|(segment, _)| segment.header.bytes).sum();
    let mut out = SegmentWriter::new(tx, &documents, usize::try_from(size / 2).unwrap_or(usize::MAX))?;
    let mut words = Merged::new(parts.iter().map(|(segment, _)| *segment))?;
    let (mut found, mut writer) = (Vec::new(), Writer::default());
    while let Some(word) = words.next(&mut found)? {
        writer.clear();
        for (part, entry) in &found {
            let (segment, map) = (parts[*part].0, &numbers[*part]);
            let bytes = segment.postings(entry)?;
            for posting in Postings::new(&bytes, segment.header.documents) {
                let posting = posting?;
                if let Some(number) = map[posting.document as usize] {
                    writer.push(number, posting.count, posting.encoded_lines());
                }
            }
        }
        if writer.documents > 0 {
            out.add(tx, &word, &writer)?;
        }
    }
    out.finish(tx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use twizzler_abi::ObjId;

    fn listed(bytes: u64) -> Listed {
        Listed::new(ObjId::new(1), &Header { bytes, documents: 4, ..Header::default() })
    }

    #[test]
    fn segments_stay_few() {
        let mut segments = Vec::new();
        let (mut most, mut written) = (0, 0);
        for _ in 0..5000 {
            segments.push(listed(20 << 10));
            loop {
                let chosen = choose(&segments);
                if chosen.is_empty() {
                    break;
                }
                let bytes = chosen.iter().map(|&i| segments[i].numbers.bytes).sum();
                written += bytes;
                let mut i = 0;
                segments.retain(|_| (!chosen.contains(&i), i += 1).0);
                segments.push(listed(bytes));
            }
            most = most.max(segments.len());
        }
        assert!(most <= 18, "{most}");
        assert!(written < 8 * 5000 * (20 << 10), "{written}");
    }
}
