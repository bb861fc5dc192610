//! Gradients of single examples: against each alone, and their sum against the whole.

use super::*;

#[test]
fn gradients_of_examples_are_those_of_each_alone_and_sum_to_the_whole() {
    let weights = weights(config());
    let llama = model(&weights);
    let factors = upload(&adapter(&weights.config, &Projection::ALL));
    let packed = batch();
    for checkpointing in [Checkpointing::None, Checkpointing::Block] {
        let options = PassOptions {
            dropout: Some(Dropout { rate: 0.2, seed: 4 }),
            checkpointing,
        };
        let (loss, whole) = llama.loss_and_gradient(&packed, &factors, options).unwrap();
        let (same_loss, parts) = llama
            .loss_and_example_gradients(&packed, &factors, options)
            .unwrap();
        assert_eq!(loss, same_loss);
        let mut sum = Adapter::zeros(Arc::clone(factors.layout()));
        for part in &parts {
            sum.add(part).unwrap();
        }
        assert!(sum.difference(&whole).unwrap().norm() < 1e-5 * whole.norm());
    }
    let options = PassOptions::default();
    let (_, parts) = llama
        .loss_and_example_gradients(&packed, &factors, options)
        .unwrap();
    for (rows, part) in packed.segments.iter().zip(&parts) {
        let inside = |target: &&Target| rows.contains(&(target.row as usize));
        let alone = Batch {
            tokens: packed.tokens[rows.clone()].to_vec(),
            segments: std::iter::once(0..rows.len()).collect(),
            targets: packed
                .targets
                .iter()
                .filter(inside)
                .map(|target| Target {
                    row: target.row - rows.start as u32,
                    ..*target
                })
                .collect(),
        };
        let (_, expected) = llama.loss_and_gradient(&alone, &factors, options).unwrap();
        let error = part.difference(&expected).unwrap().norm();
        assert!(error <= 1e-5 * expected.norm(), "{rows:?}: {error:e}");
    }
}
