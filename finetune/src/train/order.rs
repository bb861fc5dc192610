//! Which example is trained on when, and which seed a dropout mask comes from, in training that is not private.
//!
//! Both follow from the run's seed, the data set's digest and a position alone: not from a participant's name, a clock or
//! the device. So two participants with equal data compute equal updates, a later round goes on where the last one
//! stopped, and a rerun repeats itself. The generator is ChaCha8 on the host; the shuffle is written out here (Fisher and
//! Yates, in Durstenfeld's form) because a library's may change between versions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// Derives every random choice of a training from the run's seed and the data set's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seeds {
    pub(super) seed: u64,
    pub(super) digest: [u8; 32],
}

impl Seeds {
    /// Gives the seed of one micro-batch's dropout masks.
    pub(super) fn dropout(&self, step: u64, micro_batch: usize) -> u64 {
        let bytes = self.derive(b"foedus/dropout/1", step, micro_batch as u64);
        let mut first = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        u64::from_le_bytes(first)
    }

    fn derive(&self, label: &[u8], first: u64, second: u64) -> [u8; 32] {
        Sha256::new()
            .chain_update(label)
            .chain_update(self.seed.to_le_bytes())
            .chain_update(self.digest)
            .chain_update(first.to_le_bytes())
            .chain_update(second.to_le_bytes())
            .finalize()
            .into()
    }
}

/// The endless sequence of examples: one shuffle of the whole data set after another.
#[derive(Clone, Debug)]
pub(super) struct ExampleOrder {
    seeds: Seeds,
    examples: usize,
    epoch: u64,
    shuffled: Vec<usize>,
}

impl ExampleOrder {
    /// Makes the order of a data set of `examples` examples.
    ///
    /// # Panics
    /// If there are none; the trainer has refused an empty data set before.
    pub(super) fn new(seeds: Seeds, examples: usize) -> Self {
        assert!(examples > 0, "an empty data set was refused before");
        Self {
            seeds,
            examples,
            epoch: 0,
            shuffled: shuffle(&seeds, 0, examples),
        }
    }

    /// Gives the examples at `count` positions of the sequence from `first` on.
    pub(super) fn take(&mut self, first: u64, count: usize) -> Vec<usize> {
        (first..)
            .take(count)
            .map(|position| self.at(position))
            .collect()
    }

    fn at(&mut self, position: u64) -> usize {
        let examples = self.examples as u64;
        let epoch = position / examples;
        if epoch != self.epoch {
            self.shuffled = shuffle(&self.seeds, epoch, self.examples);
            self.epoch = epoch;
        }
        self.shuffled[(position % examples) as usize]
    }
}

fn shuffle(seeds: &Seeds, epoch: u64, examples: usize) -> Vec<usize> {
    let mut generator = ChaCha8Rng::from_seed(seeds.derive(b"foedus/order/1", epoch, 0));
    let mut order: Vec<usize> = (0..examples).collect();
    for last in (1..examples).rev() {
        // A draw below `last + 1` by multiplication; its bias is below `examples / 2^64`.
        let choices = u128::from(last as u64 + 1);
        let chosen = ((u128::from(generator.next_u64()) * choices) >> 64) as usize;
        order.swap(last, chosen);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: Seeds = Seeds {
        seed: 7,
        digest: [3; 32],
    };

    #[test]
    fn every_epoch_holds_every_example_once() {
        let mut order = ExampleOrder::new(SEEDS, 11);
        for epoch in 0..3u64 {
            let mut seen = order.take(epoch * 11, 11);
            seen.sort_unstable();
            assert_eq!(seen, (0..11).collect::<Vec<_>>(), "epoch {epoch}");
        }
    }

    #[test]
    fn epochs_differ_and_each_repeats_itself() {
        let mut order = ExampleOrder::new(SEEDS, 50);
        let first = order.take(0, 50);
        let second = order.take(50, 50);
        assert_ne!(first, second);
        assert_eq!(first, order.take(0, 50));
        assert_eq!(first[20..], ExampleOrder::new(SEEDS, 50).take(20, 30));
    }

    #[test]
    fn order_follows_seed_and_data_only() {
        let mine = ExampleOrder::new(SEEDS, 50).take(0, 50);
        assert_eq!(mine, ExampleOrder::new(SEEDS, 50).take(0, 50));
        let other_seed = Seeds { seed: 8, ..SEEDS };
        assert_ne!(mine, ExampleOrder::new(other_seed, 50).take(0, 50));
        let other_data = Seeds {
            digest: [4; 32],
            ..SEEDS
        };
        assert_ne!(mine, ExampleOrder::new(other_data, 50).take(0, 50));
    }

    #[test]
    fn dropout_seeds_differ_by_step_and_micro_batch() {
        let mut seeds: Vec<u64> = (0..8)
            .flat_map(|step| (0..4).map(move |micro| SEEDS.dropout(step, micro)))
            .collect();
        assert_eq!(SEEDS.dropout(3, 1), seeds[3 * 4 + 1]);
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 32);
    }
}
