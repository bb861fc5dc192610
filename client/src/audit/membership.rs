//! Membership inference by loss (Yeom et al. 2018, arXiv 1709.01604), and calibrated by the loss of the base model.

use finetune::data::Dataset;
use serde::Serialize;

use super::{AuditError, Losses};

/// How well records that were trained on can be told from others of the same site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Membership {
    /// By the trained model's loss.
    pub by_loss: Roc,
    /// By how much training lowered the loss.
    pub calibrated: Roc,
}

/// A threshold attack over all thresholds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Roc {
    /// Area under the curve: 0.5 is guessing, 1 is certainty.
    pub auc: f64,
    /// Share of members found at a threshold that takes at most 1 % of others for members.
    pub tpr_at_1_percent: f64,
    /// False and true positive rate at each threshold, both ascending.
    pub curve: Vec<(f64, f64)>,
}

pub(super) fn measure(
    members: &Dataset,
    outsiders: &Dataset,
    before: &Losses<'_>,
    trained: &Losses<'_>,
) -> Result<Membership, AuditError> {
    let scores = |dataset: &Dataset| -> Result<(Vec<f64>, Vec<f64>), AuditError> {
        let (base, tuned) = (before.of(dataset)?, trained.of(dataset)?);
        let gains = base
            .iter()
            .zip(&tuned)
            .map(|(base, tuned)| base - tuned)
            .collect();
        Ok((tuned.into_iter().map(|loss| -loss).collect(), gains))
    };
    let (inside, outside) = (scores(members)?, scores(outsiders)?);
    Ok(Membership {
        by_loss: Roc::of(&inside.0, &outside.0),
        calibrated: Roc::of(&inside.1, &outside.1),
    })
}

impl Membership {
    /// The stronger of the two attacks.
    pub fn best(&self) -> &Roc {
        if self.by_loss.auc < self.calibrated.auc {
            &self.calibrated
        } else {
            &self.by_loss
        }
    }
}

impl Roc {
    /// Compares the scores of members and of others; a member is said to have the higher ones.
    pub(super) fn of(members: &[f64], others: &[f64]) -> Self {
        let labelled = |scores: &[f64], is_member| {
            scores
                .iter()
                .map(|&score| (score, is_member))
                .collect::<Vec<_>>()
        };
        let mut scores = [labelled(members, true), labelled(others, false)].concat();
        scores.sort_by(|one, other| other.0.total_cmp(&one.0));
        let (mut hits, mut misses, mut auc) = (0_usize, 0_usize, 0.0);
        let (mut curve, mut best) = (vec![(0.0, 0.0)], 0.0_f64);
        for equal in scores.chunk_by(|one, other| one.0 == other.0) {
            let found = equal.iter().filter(|(_, is_member)| *is_member).count();
            let wrong = equal.len() - found;
            // Equal scores are one threshold: a straight line over both rates.
            auc += wrong as f64 * (hits as f64 + found as f64 / 2.0);
            (hits, misses) = (hits + found, misses + wrong);
            let rates = (
                misses as f64 / others.len() as f64,
                hits as f64 / members.len() as f64,
            );
            if rates.0 <= 0.01 {
                best = best.max(rates.1);
            }
            curve.push(rates);
        }
        let auc = auc / (members.len() as f64 * others.len() as f64);
        Self {
            auc,
            tpr_at_1_percent: best,
            curve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curve_of_known_scores_has_its_known_area() {
        let roc = Roc::of(&[3.0, 2.0, 1.0], &[2.5, 1.5, 0.5]);
        assert!((roc.auc - 6.0 / 9.0).abs() < 1e-12);
        assert!((roc.tpr_at_1_percent - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(roc.curve.first(), Some(&(0.0, 0.0)));
        assert_eq!(roc.curve.last(), Some(&(1.0, 1.0)));
    }

    #[test]
    fn equal_scores_are_guessing_and_perfect_ones_are_certain() {
        let guess = Roc::of(&[1.0, 1.0], &[1.0, 1.0]);
        assert_eq!((guess.auc, guess.tpr_at_1_percent), (0.5, 0.0));
        let certain = Roc::of(&[2.0, 3.0], &[0.0, 1.0]);
        assert_eq!((certain.auc, certain.tpr_at_1_percent), (1.0, 1.0));
    }
}
