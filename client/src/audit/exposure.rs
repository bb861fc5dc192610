//! Exposure (Carlini et al. 2019, arXiv 1802.08232, section 4.2): how far up a canary ranks among random secrets by its loss.

use serde::Serialize;

use super::{AuditError, Losses, canaries::Canaries};

/// The exposure of the canaries that were inserted so often.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exposure {
    /// How often each was inserted.
    pub insertions: usize,
    /// `log2(M) - log2(rank)` of each, in bits.
    pub bits: Vec<f64>,
    /// Their mean. A secret that was never seen has about 1.44 on average.
    pub mean_bits: f64,
    /// The most there can be, `log2(M)`.
    pub max_bits: f64,
}

pub(super) fn measure(
    canaries: &Canaries,
    trained: &Losses<'_>,
) -> Result<Vec<Exposure>, AuditError> {
    let mut candidates = trained.of(&canaries.candidates)?;
    candidates.sort_by(f64::total_cmp);
    let of_group = |(insertions, group): &(usize, _)| {
        let losses = trained.of(group)?;
        let bits: Vec<_> = losses
            .iter()
            .map(|&loss| exposure(&candidates, loss))
            .collect();
        Ok(Exposure {
            insertions: *insertions,
            mean_bits: bits.iter().sum::<f64>() / bits.len() as f64,
            bits,
            max_bits: (candidates.len() as f64 + 1.0).log2(),
        })
    };
    canaries.repeated.iter().map(of_group).collect()
}

/// The exposure of a loss among the ascending losses of others; the canary itself is one of the M.
fn exposure(candidates: &[f64], loss: f64) -> f64 {
    let rank = candidates.partition_point(|&other| other < loss) + 1;
    (candidates.len() as f64 + 1.0).log2() - (rank as f64).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposure_is_the_logarithm_of_the_rank() {
        let candidates: Vec<f64> = (1..1024).map(f64::from).collect();
        assert_eq!(exposure(&candidates, 0.5), 10.0);
        assert_eq!(exposure(&candidates, 1.5), 9.0);
        assert_eq!(exposure(&candidates, 2000.0), 0.0);
    }
}
