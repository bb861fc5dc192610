//! Durations, counted by class.

/// How many observations lie within each of some bounds, and their sum.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds: the last class is open.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Makes an empty one with these bounds, which ascend; what is beyond the last is counted too.
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    /// Counts an observation. A bound is within its class.
    pub(crate) fn observe(&mut self, value: f64) {
        let class = self.bounds.partition_point(|bound| *bound < value);
        self.counts[class] += 1;
        self.sum += value;
    }

    /// Gives each bound with the number of observations up to it; the last bound is infinite, its number that of all.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let up_to = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        bounds.zip(up_to)
    }

    /// Gives the number of observations.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Gives their sum.
    pub(super) fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_counted_in_every_class_that_it_lies_within() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        let classes: Vec<_> = histogram.cumulative().collect();
        assert_eq!(classes, [(1.0, 2), (2.0, 3), (f64::INFINITY, 4)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 12.0));
    }
}
