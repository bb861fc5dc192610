//! Federation against local training: one participant is the same, and so are two with equal text.

use std::path::Path;

use aggregation::Adapter;
use simulations::experiment::{Download, Experiment, Sums, Transfer};
use simulations::run::Outcome;

use crate::{experiment, run, workplace};

/// The largest difference of two values at the same place.
fn distance(left: &Adapter, right: &Adapter) -> f64 {
    left.values()
        .iter()
        .zip(right.values())
        .map(|(one, other)| (f64::from(*one) - f64::from(*other)).abs())
        .fold(0.0, f64::max)
}

/// An experiment in which the named institutions have the same lines.
///
/// The anchor is made as weak as it can be, so that the federated run is the plain one to rounding.
fn equal_text(folder: &Path, names: &[&str]) -> Experiment {
    let data = folder.join(names.join("-"));
    std::fs::create_dir(&data).unwrap();
    let lines: String = (0..9)
        .map(|number| {
            format!("{{\"prompt\": \"what is {number}?\", \"completion\": \"it is {number}.\"}}\n")
        })
        .collect();
    for name in names {
        std::fs::write(data.join(format!("{name}.jsonl")), &lines).unwrap();
    }
    let mut experiment = experiment(folder);
    experiment.data = Some(data);
    experiment.ewc.lambda = 1e-12;
    experiment.transfer = Transfer::F32;
    experiment
}

fn outcome(names: &[&str]) -> Outcome {
    let folder = workplace();
    run(equal_text(folder.path(), names), folder.path().join("out"))
}

#[test]
fn federated_over_one_participant_equals_local_training() {
    let outcome = outcome(&["only"]);
    let apart = distance(&outcome.adapter, &outcome.alone[0]);
    assert!(apart <= 1e-6, "{apart}");
    let [one] = &outcome.summary.participants[..] else {
        panic!("one institution")
    };
    assert!(
        (one.loss_federated_without_ewc - one.loss_alone).abs() <= 1e-6,
        "{one:?}"
    );
    assert!(
        (one.loss_federated - one.loss_base).abs() > 1e-6,
        "nothing was learned: {one:?}"
    );
}

#[test]
fn masks_change_no_byte_of_a_simulation() {
    let names = ["one", "two", "three"];
    let [masked, plain] = [Sums::Masked, Sums::Ring].map(|sums| {
        let folder = workplace();
        let mut experiment = equal_text(folder.path(), &names);
        experiment.sums = sums;
        run(experiment, folder.path().join("out"))
    });
    assert_eq!(masked.adapter, plain.adapter);
}

#[test]
fn deltas_change_no_byte_of_a_simulation_also_under_masks() {
    let names = ["one", "two", "three"];
    let [delta, whole] = [Download::Delta, Download::Whole].map(|download| {
        let folder = workplace();
        let mut experiment = equal_text(folder.path(), &names);
        experiment.sums = Sums::Masked;
        experiment.download = download;
        run(experiment, folder.path().join("out"))
    });
    assert_eq!(delta.adapter, whole.adapter);
    let down = |outcome: &Outcome| outcome.summary.bytes_down;
    assert!(
        down(&delta) < down(&whole),
        "{} and {}",
        down(&delta),
        down(&whole)
    );
}

#[test]
fn two_participants_with_equal_text_equal_one() {
    let outcome = outcome(&["left", "right"]);
    let [left, right] = &outcome.alone[..] else {
        panic!("two institutions")
    };
    assert_eq!(left, right, "the two did not train on equal text");
    let apart = distance(&outcome.adapter, left);
    assert!(apart <= 1e-6, "{apart}");
}
