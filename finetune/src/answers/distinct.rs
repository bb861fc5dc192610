//! Distinct-n: how varied answers are. A model that says the same to everything has little of it.

use std::collections::BTreeSet;

/// Different runs of so many words over all runs of that length (Li et al. 2016, arXiv 1510.03055, section 5.2); nothing if there is none.
pub(super) fn distinct(texts: &[Vec<String>], length: usize) -> f64 {
    let runs = texts.iter().flat_map(|words| words.windows(length));
    let (mut all, mut different) = (0_u64, BTreeSet::new());
    for run in runs {
        all += 1;
        different.insert(run);
    }
    if all == 0 {
        return 0.0;
    }
    different.len() as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_again_and_again_is_hardly_distinct() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let texts = [words("i do not know"), words("i do not know"), words("yes")];
        assert_eq!(distinct(&texts, 1), 5.0 / 9.0);
        assert_eq!(distinct(&texts, 2), 3.0 / 6.0);
        assert_eq!(distinct(&texts, 5), 0.0);
    }
}
