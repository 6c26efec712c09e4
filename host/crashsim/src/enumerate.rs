//! Which images to look at, out of those that media may hold at one point.
//!
//! All, where there are few enough. Otherwise the extremes (nothing pending arrived, everything did, each
//! line alone did, all but one did), and a seeded sample of the rest.

use crate::image::{Image, line_hash};
use crate::media::{Media, Pending};
use crate::rng::Rng;

/// How much to look at.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Enumerate exhaustively up to this many images at a point.
    pub exhaustive: u64,
    /// Otherwise this many random ones, besides the extremes.
    pub samples: usize,
    /// Of lines that are pending at a point, how many are tried alone and left out alone; beyond, a
    /// random choice of them.
    pub singles: usize,
}

/// For each pending line: how many of its contents' list arrived; 0: none, the durable content stands.
pub type Choice = Vec<usize>;

impl Media {
    /// Images to look at now: a choice for each.
    #[must_use]
    pub fn choices(&self, effort: &Effort, rng: &mut Rng) -> Vec<Choice> {
        let counts: Vec<usize> = self.pending.values().map(|pending| pending.contents.len()).collect();
        let product = counts.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64 + 1));
        match product {
            Some(product) if product <= effort.exhaustive => all(&counts),
            _ => sample(&counts, effort, rng),
        }
    }

    /// The choice in which everything arrived.
    #[must_use]
    pub fn everything(&self) -> Choice {
        self.pending.values().map(|pending| pending.contents.len()).collect()
    }

    /// A number that tells images of one trace apart.
    #[must_use]
    pub fn identity(&self, choice: &Choice) -> u64 {
        let changed = self.pending.iter().zip(choice).filter(|(_, arrived)| **arrived > 0);
        changed.fold(self.durable_hash, |hash, ((&at, pending), &arrived)| {
            hash ^ line_hash(at, &self.durable.line(at)) ^ line_hash(at, &pending.contents[arrived - 1])
        })
    }

    /// The image of a choice.
    #[must_use]
    pub fn image(&self, choice: &Choice) -> Image {
        let mut image = self.durable.clone();
        for ((&at, pending), &arrived) in self.pending.iter().zip(choice) {
            if arrived > 0 {
                image.write(at, &pending.contents[arrived - 1]);
            }
        }
        image
    }

    /// A choice in words: which lines arrived.
    #[must_use]
    pub fn describe(&self, choice: &Choice) -> String {
        let line = |(at, pending): (&u64, &Pending), arrived: usize| {
            format!("{at:#x} {arrived}/{}", pending.contents.len())
        };
        let all: Vec<_> =
            self.pending.iter().zip(choice).map(|(entry, &arrived)| line(entry, arrived)).collect();
        if all.is_empty() { "nothing pending".into() } else { format!("lines arrived: {}", all.join(", ")) }
    }
}

fn all(counts: &[usize]) -> Vec<Choice> {
    let mut choices = vec![Vec::with_capacity(counts.len())];
    for &count in counts {
        choices = choices
            .into_iter()
            .flat_map(|choice| {
                (0..=count).map(move |arrived| {
                    let mut choice = choice.clone();
                    choice.push(arrived);
                    choice
                })
            })
            .collect();
    }
    choices
}

fn sample(counts: &[usize], effort: &Effort, rng: &mut Rng) -> Vec<Choice> {
    let nothing = vec![0; counts.len()];
    let everything = counts.to_vec();
    let mut choices = vec![nothing.clone(), everything.clone()];
    for line in pick(counts.len(), effort.singles, rng) {
        let mut alone = nothing.clone();
        alone[line] = counts[line];
        choices.push(alone);
        let mut missing = everything.clone();
        missing[line] = 0;
        choices.push(missing);
    }
    for _ in 0..effort.samples {
        // Different densities: a line that has all or nothing is likelier to matter than one in between.
        let density = 1 + rng.below(7);
        let choice = counts.iter().map(|&count| match rng.below(8) {
            n if n < density => count,
            7 => rng.index(count + 1),
            _ => 0,
        });
        choices.push(choice.collect());
    }
    choices
}

/// All of `0..len`, or a random `most` of them.
fn pick(len: usize, most: usize, rng: &mut Rng) -> Vec<usize> {
    if len <= most { (0..len).collect() } else { (0..most).map(|_| rng.index(len)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Event;

    fn media(lines: u64, stores: u64) -> Media {
        let mut media = Media::new(Image::zeroed(4096));
        for line in 0..lines {
            for n in 1..=stores {
                media.apply(&Event::Stored(vec![(line * 64, n)]));
            }
        }
        media
    }

    #[test]
    fn few_are_enumerated_wholly() {
        let effort = Effort { exhaustive: 27, samples: 0, singles: 0 };
        let media = media(3, 2);
        let choices = media.choices(&effort, &mut Rng::new(1));
        assert_eq!(choices.len(), 27);
        let mut identities: Vec<_> = choices.iter().map(|choice| media.identity(choice)).collect();
        identities.sort_unstable();
        identities.dedup();
        assert_eq!(identities.len(), 27);
    }

    #[test]
    fn many_are_sampled_with_the_extremes() {
        let effort = Effort { exhaustive: 26, samples: 5, singles: 8 };
        let media = media(3, 2);
        let choices = media.choices(&effort, &mut Rng::new(1));
        assert_eq!(choices.len(), 2 + 6 + 5);
        for extreme in [[0, 0, 0], [2, 2, 2], [0, 2, 0], [2, 0, 2]] {
            assert!(choices.contains(&extreme.to_vec()), "{extreme:?}");
        }
    }

    #[test]
    fn an_image_holds_what_its_choice_says() {
        let media = media(2, 2);
        let image = media.image(&vec![1, 0]);
        assert_eq!((image.word(0), image.word(64)), (1, 0));
    }
}
