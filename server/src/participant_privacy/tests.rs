//! The key of a round's noise, over crashes.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use aggregation::admission::AdmissionRules;
use aggregation::strategy::fixed_point::FixedPoint;
use aggregation::{AdapterLayout, Encoding, ModuleLayout};
use protocol::message::{Content, TransferKind};

use super::*;
use crate::spool::UpdateBytes;
use crate::total::Candidate;

fn asked() -> ParticipantPrivacyPlan {
    ParticipantPrivacyPlan {
        clip: ClipPlan::Fixed { norm: 1.0 },
        noise_multiplier: 6.38,
        epsilon_max: 8.0,
        delta: 1e-5,
        expected: 100,
        force: false,
    }
}

/// As a process of the server has it whose key is at this place.
fn with_key_at(path: &Path) -> ParticipantPrivacy {
    ParticipantPrivacy {
        plan: Digest::of(b"plan"),
        privacy: asked(),
        norm_max: 10.0,
        key_file: NoiseKeyFile::at(path.to_owned()),
        clip_norm: 1.0,
    }
}

fn updates(contents: &[&[u8]]) -> Vec<TransferHeader> {
    let header = |content: &&[u8]| {
        let content = Content::of(content);
        TransferHeader::from_server(
            TransferKind::GlobalAdapter,
            Round(1),
            Digest::of(b"plan"),
            content,
        )
    };
    contents.iter().map(header).collect()
}

fn drawn(noised: &Noised) -> Vec<f32> {
    let mut values = vec![0.0; 100];
    noised.key.add_to(&mut values, 1.0);
    values
}

#[test]
fn noise_of_a_round_is_the_same_after_a_crash_and_another_for_other_updates_or_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise.key");
    let privacy = || with_key_at(&path);
    let (two, one) = (updates(&[b"a", b"b"]), updates(&[b"a"]));
    let before = drawn(&privacy().noised(Round(1), &two).unwrap());
    // Another process, the updates in another order.
    let again: Vec<_> = two.iter().rev().copied().collect();
    assert_eq!(before, drawn(&privacy().noised(Round(1), &again).unwrap()));
    assert_ne!(before, drawn(&privacy().noised(Round(1), &one).unwrap()));
    assert_ne!(before, drawn(&privacy().noised(Round(2), &two).unwrap()));
    // That of the first round was replaced by the second's, and does not come again.
    assert_ne!(before, drawn(&privacy().noised(Round(1), &two).unwrap()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    privacy().key_file.wipe().unwrap();
    privacy().key_file.wipe().unwrap();
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn key_that_was_cut_off_is_named_and_nothing_is_drawn_instead() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise.key");
    fs::write(&path, [1; 20]).unwrap();
    let refused = with_key_at(&path)
        .noised(Round(1), &[])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("noise.key"), "{refused}");
}

#[test]
fn rounds_that_cost_more_than_the_plan_allows_are_refused_with_how_many_fit() {
    // algorithms.md 5.7: 100 rounds with 6.38 are epsilon 8 at delta 1e-5.
    let privacy = asked();
    check_budget(&privacy, 100).unwrap();
    let refused = check_budget(&privacy, 120).unwrap_err();
    assert_eq!(refused.field, "participant_privacy.epsilon_max");
    let said = refused.to_string();
    assert!(
        said.contains("E_DP_BUDGET") && said.contains("100 rounds fit"),
        "{said}"
    );
}

/// A round's sum of two updates of 20,000 values, all zero.
fn sum_of_zeros() -> Total {
    let module = ModuleLayout {
        name: "model.layers.0.self_attn.q_proj".to_owned(),
        in_features: 100,
        out_features: 100,
    };
    let layout = AdapterLayout::new(100, 1.0, false, vec![module]).unwrap();
    let rules = AdmissionRules {
        norm_max: 10.0,
        weight_max: 1,
    };
    let summing = Summing {
        layout: Arc::new(layout),
        rules,
        encoding: Encoding::F32,
        fixed: FixedPoint::for_bounds(100, rules.weight_max, rules.norm_max).unwrap(),
        ring: None,
        rule: None,
        clip: None,
    };
    let mut total = summing.empty();
    let bytes = UpdateBytes::Memory(Encoding::F32.encode(&[0.0; 20_000]).into());
    for name in ["a", "b"] {
        let candidate = Candidate {
            participant: &name.parse().unwrap(),
            bytes: &bytes,
            weight: 1,
        };
        let added = summing.add(&mut total, candidate, || Ok(None));
        assert_eq!(added.unwrap(), Ok(()));
    }
    total
}

#[test]
fn noise_on_the_released_mean_has_the_deviation_that_the_plan_asks_for_and_the_record_says() {
    let folder = tempfile::tempdir().unwrap();
    let fixed = asked().clip;
    let adaptive = ClipPlan::Adaptive {
        first_norm: 1.0,
        quantile: 0.5,
        learning_rate: 0.2,
        count_noise: 5.0,
    };
    // 6.38 * 1.0 / 100, and (6.38^-2 - 10^-2)^-1/2 * 1.0 / 100.
    for (clip, deviation) in [(fixed, 0.0638), (adaptive, 0.082_853_2)] {
        let mut privacy = with_key_at(&folder.path().join("noise.key"));
        privacy.privacy.clip = clip;
        let noised = privacy.noised(Round(1), &updates(&[b"a", b"b"])).unwrap();
        let (mean, record) = noised.release(sum_of_zeros()).unwrap();
        assert!((record.noise / deviation - 1.0).abs() < 1e-5, "{record:?}");
        let squares = mean
            .iter()
            .map(|&value| (f64::from(value) / deviation).powi(2));
        let (chi_square, count) = (squares.sum::<f64>(), mean.len() as f64);
        assert_eq!(mean.len(), 20_000);
        // Five of its standard deviations.
        assert!(
            (chi_square - count).abs() < 5.0 * (2.0 * count).sqrt(),
            "{chi_square}"
        );
    }
}
