//! Rings to chase pointers around: which node follows which.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// A node: which object it lies in, and which one it is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) object: u32,
    pub(super) index: u32,
}

/// A random ring over all nodes of several objects, in the order of visits. Each hop of a ring over more than one object leads into
/// another object.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) objects: u32,
    /// Nodes in each object.
    pub(super) nodes: u32,
    pub(super) visits: Vec<Place>,
}

/// An object's pointers lead into at most so many others.
const NEIGHBOURS_MAX: usize = 64;

impl Ring {
    /// A ring of about `nodes` nodes, spread evenly.
    pub(super) fn new(objects: u32, nodes: u32, random: &mut StdRng) -> Self {
        let each = (nodes / objects).max(1);
        let mut indexes: Vec<Vec<u32>> = (0..objects).map(|_| shuffled(each, random)).collect();
        // Each pass visits every object once; passes repeat, so that an object has a bounded number of neighbours.
        let passes = passes(objects, (each as usize).min(NEIGHBOURS_MAX), random);
        let mut visits = Vec::with_capacity(objects as usize * each as usize);
        for pass in 0..each as usize {
            for &object in &passes[pass % passes.len()] {
                let index = indexes[object as usize].pop().expect("each pass takes one node of each object");
                visits.push(Place { object, index });
            }
        }
        Self { objects, nodes: each, visits }
    }

    /// How many hops from the start lead each through a pair of objects that no hop before did.
    pub(super) fn first_hops(&self) -> u64 {
        let mut pairs = std::collections::HashSet::new();
        self.links().take_while(|(from, to)| pairs.insert((from.object, to.object))).count() as u64
    }

    /// Each node with the one after it.
    pub(super) fn links(&self) -> impl Iterator<Item = (Place, Place)> + '_ {
        let next = self.visits.iter().cycle().skip(1);
        self.visits.iter().copied().zip(next.copied())
    }
}

fn shuffled(len: u32, random: &mut StdRng) -> Vec<u32> {
    let mut all: Vec<u32> = (0..len).collect();
    all.shuffle(random);
    all
}

/// Random orders of all objects, none of which begins with the one that the order before it ends with.
fn passes(objects: u32, number: usize, random: &mut StdRng) -> Vec<Vec<u32>> {
    let mut passes: Vec<Vec<u32>> = Vec::with_capacity(number);
    for _ in 0..number {
        let mut pass = shuffled(objects, random);
        // The first pass also follows the last one.
        let before = passes.last().and_then(|last| last.last()).copied();
        let after = passes.first().map(|first| first[0]);
        if objects > 2 {
            if before == Some(pass[0]) {
                pass.swap(0, 1);
            }
            if after == pass.last().copied() {
                let last = pass.len() - 1;
                let other = random.random_range(1..last);
                pass.swap(other, last);
            }
        } else {
            pass.sort_unstable();
        }
        passes.push(pass);
    }
    passes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_ring_visits_every_node_once_and_every_hop_leaves_the_object() {
        for (objects, nodes) in [(1, 100), (2, 64), (3, 999), (8, 256), (32, 256), (256, 16384)] {
            let ring = Ring::new(objects, nodes, &mut StdRng::seed_from_u64(7));
            assert_eq!(ring.visits.len(), (objects * ring.nodes) as usize);
            let visited: HashSet<Place> = ring.visits.iter().copied().collect();
            assert_eq!(visited.len(), ring.visits.len());
            assert!(visited.iter().all(|place| place.object < objects && place.index < ring.nodes));
            assert!(objects == 1 || ring.links().all(|(from, to)| from.object != to.object), "{objects}");
            let neighbours: HashSet<(u32, u32)> =
                ring.links().map(|(from, to)| (from.object, to.object)).collect();
            assert!(neighbours.len() <= objects as usize * NEIGHBOURS_MAX);
        }
    }
}
