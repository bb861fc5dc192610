//! DP-SGD inside the trainer: what clipping, noise and sampling do to whole steps.

use std::collections::BTreeSet;

use super::*;
use crate::lora::LoraFactors;
use crate::model::PassOptions;
use crate::privacy::{DpSgd, NoiseSource, Units};

const KEY: [u8; 32] = [9; 32];

fn private(data: &Arc<Dataset>, recipe: Recipe, change: impl FnOnce(&mut DpSgd)) -> Trainer {
    privately(data, recipe, None, change)
}

fn privately(
    data: &Arc<Dataset>,
    recipe: Recipe,
    pull: Option<AnchorPull>,
    change: impl FnOnce(&mut DpSgd),
) -> Trainer {
    let mut privacy = DpSgd {
        clip_norm: 1.0,
        noise_multiplier: 1.0,
        expected_units: data.examples.len() as f64,
        units: Units::records(data),
        random: NoiseSource::from_key(KEY),
    };
    change(&mut privacy);
    on(data, recipe, SEED, pull).with_privacy(privacy).unwrap()
}

fn recipe(batch_examples: usize) -> Recipe {
    Recipe {
        batch_examples,
        dropout: 0.0,
        clip_norm: None,
        ..fixture::recipe()
    }
}

/// Six texts of the same number of tokens, so that a mean over tokens is the mean of the examples' means.
fn equal_texts() -> Arc<Dataset> {
    let records = ["abcde", "fghij", "klmno", "pqrst", "uvwxy", "zabcd"];
    let records = records.map(|text| Record::Text(text.to_owned())).to_vec();
    fixture::dataset(&base(), "equal.jsonl", records)
}

fn noiseless(privacy: &mut DpSgd) {
    (privacy.clip_norm, privacy.noise_multiplier) = (1e9, 0.0);
}

fn slope(trainer: &mut Trainer) -> Adapter {
    let start = fixture::adapter(&base());
    trainer.private_slope(&start, 0).unwrap().1.gradient
}

#[test]
fn without_noise_and_clipping_it_is_plain_training_on_the_same_sample() {
    let data = equal_texts();
    let start = fixture::adapter(&base());
    let plain = on(&data, recipe(6), SEED, None)
        .run(&start, 0, 5, &mut go_on)
        .unwrap();
    for micro_batch in [6, 4, 1] {
        let same = private(&data, recipe(micro_batch), noiseless)
            .run(&start, 0, 5, &mut go_on)
            .unwrap();
        let apart = same.adapter.difference(&plain.adapter).unwrap().norm();
        let moved = plain.adapter.difference(&start).unwrap().norm();
        assert!(apart < 1e-3 * moved, "{micro_batch}: {apart} of {moved}");
        assert!((same.mean_loss - plain.mean_loss).abs() < 1e-4);
    }
}

#[test]
fn every_record_contributes_at_most_the_bound_and_long_gradients_exactly_that() {
    let data = fixture::texts(&base());
    let bound = 1e-3;
    let clipped = slope(&mut private(&data, recipe(2), |privacy| {
        (privacy.clip_norm, privacy.noise_multiplier) = (bound, 0.0);
    }));
    let whole = slope(&mut private(&data, recipe(2), noiseless));
    assert!(whole.norm() > 10.0 * bound, "the bound must cut something");
    assert!(clipped.norm() <= 6.0 * bound * (1.0 + 1e-5));
    // One record alone: its gradient is far longer than the bound.
    let one = fixture::dataset(&base(), "one.jsonl", vec![Record::Text("rain".to_owned())]);
    let alone = slope(&mut private(&one, recipe(2), |privacy| {
        (privacy.clip_norm, privacy.noise_multiplier) = (bound, 0.0);
    }));
    assert!(
        (alone.norm() / bound - 1.0).abs() < 1e-5,
        "{}",
        alone.norm()
    );
}

#[test]
fn group_of_records_contributes_at_most_the_bound_together() {
    let data = fixture::texts(&base());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"patient\": 1}\n".repeat(6)).unwrap();
    let bound = 1e-3;
    let gradient = slope(&mut private(&data, recipe(4), |privacy| {
        privacy.units = Units::groups(&data, file.path(), "patient", 8).unwrap();
        privacy.expected_units = 1.0;
        (privacy.clip_norm, privacy.noise_multiplier) = (bound, 0.0);
    }));
    assert!(
        (gradient.norm() / bound - 1.0).abs() < 1e-5,
        "{}",
        gradient.norm()
    );
}

#[test]
fn noise_on_the_sum_has_the_promised_variance() {
    let data = fixture::texts(&base());
    let (bound, noise) = (0.5, 3.0);
    let slope_with = |multiplier| {
        slope(&mut private(&data, recipe(6), |privacy| {
            (privacy.clip_norm, privacy.noise_multiplier) = (bound, multiplier);
        }))
    };
    let noise_only = slope_with(noise).difference(&slope_with(0.0)).unwrap();
    let chi_square = (noise_only.norm() / (bound * noise)).powi(2);
    let n = noise_only.values().len() as f64;
    assert!(
        (chi_square - n).abs() < 4.0 * (2.0 * n).sqrt(),
        "{chi_square} of {n}"
    );
}

#[test]
fn step_that_reads_nobody_is_noised_like_any_other() {
    let data = fixture::texts(&base());
    let start = fixture::adapter(&base());
    let mut reports = Vec::new();
    let trained = private(&data, recipe(3), |privacy| privacy.expected_units = 1e-9)
        .run(&start, 0, 2, &mut |report| {
            reports.push(report.clone());
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(
        (trained.steps, trained.tokens, trained.examples_used),
        (2, 0, 0)
    );
    assert!(
        reports
            .iter()
            .all(|report| report.lines.is_empty() && report.gradient_norm > 0.0)
    );
    assert!(trained.adapter.difference(&start).unwrap().norm() > 0.0);
}

#[test]
fn sum_is_divided_by_the_expected_number_of_records_and_never_by_the_drawn_one() {
    let data = fixture::texts(&base());
    let start = fixture::adapter(&base());
    let mut trainer = private(&data, recipe(3), |privacy| privacy.expected_units = 3.0);
    let mut drawn = BTreeSet::new();
    for step in 0..12 {
        let (examples, slope) = trainer.private_slope(&start, step).unwrap();
        assert_eq!(slope.divisor, 3.0);
        drawn.insert(examples.len());
    }
    assert!(drawn.len() > 2, "samples differ in size: {drawn:?}");
}

#[test]
fn anchor_leaves_the_clipped_sum_as_it_is() {
    let data = fixture::texts(&base());
    let start = fixture::adapter(&base());
    let run = |pull| {
        let mut trainer = privately(&data, recipe(3), pull, |_| ());
        let (_, slope) = trainer.private_slope(&start, 0).unwrap();
        let mut trainer = privately(&data, recipe(3), trainer.pull, |_| ());
        let after = trainer.run(&start, 0, 3, &mut go_on).unwrap().adapter;
        (slope.gradient.to_le_bytes(), after.to_le_bytes())
    };
    let (without, with) = (run(None), run(Some(pull(3.0))));
    assert!(without.0 == with.0);
    assert!(without.1 != with.1, "the anchor acts after the step");
}

#[test]
fn dropout_masks_of_private_steps_follow_neither_from_the_data_set_nor_from_what_else_is_drawn() {
    let data = fixture::texts(&base());
    let dropped = |data: &Arc<Dataset>, batch_examples| {
        let recipe = Recipe {
            dropout: 0.3,
            ..recipe(batch_examples)
        };
        slope(&mut private(data, recipe, noiseless))
    };
    let whole = dropped(&data, 6);
    let other_digest = Dataset {
        digest: [1; 32],
        ..Dataset::clone(&data)
    };
    assert!(whole.to_le_bytes() == dropped(&Arc::new(other_digest), 6).to_le_bytes());
    // In other company, and so at other rows, each example has the masks that it had.
    let apart = whole.difference(&dropped(&data, 1)).unwrap().norm();
    assert!(apart < 1e-4 * whole.norm(), "{apart} of {}", whole.norm());
    let undropped = slope(&mut private(&data, recipe(6), noiseless));
    let apart = whole.difference(&undropped).unwrap().norm();
    assert!(apart > 1e-2 * whole.norm(), "dropout did nothing");
}

#[test]
fn example_whose_numbers_overflow_ends_no_step_and_contributes_nothing() {
    let data = fixture::texts(&base());
    let (start, broken) = overflowing(&data);
    let without = |privacy: &mut DpSgd| {
        (privacy.clip_norm, privacy.noise_multiplier) = (1e-3, 0.0);
    };
    let healthy = data.examples.iter().zip(&broken);
    let healthy = healthy.filter(|(_, broken)| !**broken);
    let healthy = Arc::new(Dataset {
        examples: healthy.map(|(example, _)| example.clone()).collect(),
        ..Dataset::clone(&data)
    });
    let mut slopes = [(&data, 6), (&data, 2), (&healthy, 6)].map(|(data, batch_examples)| {
        let mut trainer = private(data, recipe(batch_examples), without);
        trainer.private_slope(&start, 0).unwrap().1
    });
    let expected = slopes[2].gradient.clone();
    assert!(expected.norm() > 0.0);
    for slope in &mut slopes {
        let apart = slope.gradient.difference(&expected).unwrap().norm();
        assert!(apart <= 1e-5 * expected.norm(), "{apart}");
        assert!(slope.loss.nats.is_finite() && slope.loss.tokens > 0);
    }
    let trained = private(&data, recipe(3), |_| ()).run(&start, 0, 1, &mut go_on);
    assert!(trained.unwrap().mean_loss.is_finite());
}

/// An adapter at which some examples overflow and others do not, as a server makes it that asks for a token, and which ones do.
fn overflowing(data: &Dataset) -> (Adapter, Vec<bool>) {
    let base = base();
    let all: Vec<usize> = (0..data.examples.len()).collect();
    for (column, size) in (0..8).flat_map(|column| (1..12).map(move |size| (column, size))) {
        let mut adapter = fixture::adapter(&base);
        adapter.a_mut(0)[column] = 3e37 * size as f32;
        let factors = LoraFactors::upload(&adapter, base.llama.device()).unwrap();
        let found = base
            .llama
            .loss_and_example_gradients(&data.batch(&all), &factors, PassOptions::default())
            .unwrap();
        let broken: Vec<bool> = found
            .iter()
            .map(|(_, gradient)| !gradient.norm().is_finite())
            .collect();
        if broken.contains(&true) && broken.contains(&false) {
            return (adapter, broken);
        }
    }
    panic!("no adapter of these overflows at some examples only");
}

#[test]
fn noise_does_not_follow_from_the_seed_of_the_run() {
    let data = fixture::texts(&base());
    let from = |random: NoiseSource| {
        slope(&mut private(&data, recipe(6), |privacy| {
            privacy.random = random
        }))
    };
    let system = || NoiseSource::from_system().unwrap();
    assert!(from(system()).to_le_bytes() != from(system()).to_le_bytes());
    let key = || NoiseSource::from_key(KEY);
    assert!(from(key()).to_le_bytes() == from(key()).to_le_bytes());
}

#[test]
fn checkpoint_keeps_no_noise_and_belongs_to_private_training_only() {
    let data = fixture::texts(&base());
    let mut trainer = private(&data, recipe(3), |_| ());
    let start = fixture::adapter(&base());
    trainer.run(&start, 0, 1, &mut go_on).unwrap();
    let kept = trainer.checkpoint();
    assert!(!kept.windows(32).any(|window| window == KEY));
    let mut plain = on(&data, recipe(3), SEED, None);
    let refused = plain.resume(start.layout(), &kept).unwrap_err().to_string();
    assert!(refused.contains("expected units"), "{refused}");
}

#[test]
fn senseless_private_recipe_is_refused_by_field() {
    let data = fixture::texts(&base());
    let refused = |change: fn(&mut DpSgd)| {
        let mut privacy = DpSgd {
            clip_norm: 1.0,
            noise_multiplier: 1.0,
            expected_units: 2.0,
            units: Units::records(&data),
            random: NoiseSource::from_key(KEY),
        };
        change(&mut privacy);
        let error = on(&data, recipe(3), SEED, None)
            .with_privacy(privacy)
            .unwrap_err();
        error.to_string()
    };
    assert!(refused(|privacy| privacy.clip_norm = 0.0).contains("clip_norm is 0"));
    assert!(
        refused(|privacy| privacy.noise_multiplier = f64::NAN).contains("noise_multiplier is NaN")
    );
    let said = refused(|privacy| privacy.expected_units = 7.0);
    assert!(
        said.contains("expected_units is 7") && said.contains("6 units"),
        "{said}"
    );
}
