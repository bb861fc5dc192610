//! The whole simulation: its files, its figures, and the same bytes twice.

use std::collections::BTreeSet;

use aggregation::peft;
use simulations::experiment::PrivacySection;
use simulations::summary::{RoundRecord, Summary};

use crate::{experiment, run, workplace};

#[test]
fn same_seed_gives_the_same_adapter_and_another_seed_another() {
    let folder = workplace();
    let first = run(experiment(folder.path()), folder.path().join("first"));
    let second = run(experiment(folder.path()), folder.path().join("second"));
    assert_eq!(first.adapter.to_le_bytes(), second.adapter.to_le_bytes());
    assert_eq!(first.summary.adapter_sha256, second.summary.adapter_sha256);
    assert_eq!(first.summary.participants, second.summary.participants);
    assert_eq!(first.summary.general, second.summary.general);
    let mut other = experiment(folder.path());
    other.seed += 1;
    let other = run(other, folder.path().join("other"));
    assert_ne!(first.summary.adapter_sha256, other.summary.adapter_sha256);
}

#[test]
fn a_simulation_leaves_every_file_and_they_agree() {
    let folder = workplace();
    let out = folder.path().join("out");
    let outcome = run(experiment(folder.path()), out.clone());
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();

    // As text: reading a number back may change its last bit.
    let written = serde_json::to_string_pretty(&outcome.summary).unwrap();
    assert_eq!(read("summary.json").trim_end(), written);
    let summary = outcome.summary;
    assert_eq!(summary.participants.len(), 4);
    assert!(
        summary
            .participants
            .iter()
            .all(|one| one.loss_base.is_finite() && one.loss_base > 0.0)
    );
    assert_ne!(summary.adapter_sha256, summary.adapter_sha256_without_ewc);

    let rounds: Vec<RoundRecord> = read("rounds.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rounds.len(), 3);
    assert_eq!(rounds[2].adapter_sha256, summary.adapter_sha256);
    for round in &rounds {
        assert_eq!(
            (round.participants.len(), round.refused.len()),
            (4, 0),
            "{round:?}"
        );
        assert!(
            round
                .participants
                .iter()
                .all(|one| one.train_loss.is_some())
        );
    }
    let updates: u64 = rounds
        .iter()
        .flat_map(|round| &round.participants)
        .map(|one| one.bytes)
        .sum();
    assert!(
        summary.bytes_up >= updates && summary.bytes_down > 0,
        "{} {updates}",
        summary.bytes_up
    );

    let bytes = |name: &str| std::fs::read(out.join("adapter").join(name)).unwrap();
    let (adapter, _) = peft::load(
        &bytes("adapter_config.json"),
        &bytes("adapter_model.safetensors"),
    )
    .unwrap();
    assert_eq!(adapter.to_le_bytes(), outcome.adapter.to_le_bytes());

    let steps: BTreeSet<String> = read("steps.jsonl").lines().map(str::to_owned).collect();
    assert_eq!(
        steps.len(),
        4 * 3 * 6,
        "four institutions, three arms, six steps"
    );
    assert_report_shows(&read("report.html"), &summary);
}

/// Every loss of the summary stands in the report.
fn assert_report_shows(report: &str, summary: &Summary) {
    for one in &summary.participants {
        for loss in [
            one.loss_base,
            one.loss_alone,
            one.loss_federated,
            one.loss_federated_without_ewc,
        ] {
            assert!(
                report.contains(&format!("{loss:.4}")),
                "{loss} of {}",
                one.name
            );
        }
    }
}

#[test]
fn training_lowers_the_loss_on_held_out_text() {
    let folder = workplace();
    let mut experiment = experiment(folder.path());
    experiment.training.rounds = 6;
    experiment.training.learning_rate = 3e-2;
    let summary = run(experiment, folder.path().join("out")).summary;
    assert!(
        summary.mean.loss_alone < summary.mean.loss_base,
        "{:?}",
        summary.mean
    );
    assert!(
        summary.mean.loss_federated < summary.mean.loss_base,
        "{:?}",
        summary.mean
    );
}

#[test]
fn a_data_folder_replaces_the_generated_text_and_its_bad_line_is_named() {
    let folder = workplace();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for name in ["north", "south_west"] {
        let lines: Vec<String> = (0..9)
            .map(|number| {
                format!("{{\"prompt\": \"{name} {number}?\", \"completion\": \"it is {number}.\"}}")
            })
            .collect();
        std::fs::write(data.join(format!("{name}.jsonl")), lines.join("\n")).unwrap();
    }
    let mut experiment = experiment(folder.path());
    experiment.data = Some(data.clone());
    experiment.training.rounds = 1;
    let summary = run(experiment.clone(), folder.path().join("out")).summary;
    let named: Vec<_> = summary
        .participants
        .iter()
        .map(|one| (one.name.as_str(), one.examples))
        .collect();
    assert_eq!(named, [("north", 6), ("south-west", 6)]);

    std::fs::write(data.join("north.jsonl"), "{\"text\": \"fine\"}\nnot json\n").unwrap();
    let out = folder.path().join("bad");
    let progress = simulations::progress::Progress::new(
        simulations::progress::Display::Quiet,
        std::time::Instant::now(),
    );
    let said = simulations::run::Simulation {
        experiment,
        out,
        progress,
    }
    .run()
    .unwrap_err();
    let said = format!("{said:#}");
    assert!(said.contains("north.jsonl") && said.contains('2'), "{said}");
}

#[test]
fn a_private_run_reports_the_epsilon_of_each_institution_and_what_it_costs() {
    let folder = workplace();
    let mut experiment = experiment(folder.path());
    let asked = PrivacySection {
        epsilon: 6.0,
        delta: 1e-3,
        accumulation: 2,
        ..PrivacySection::default()
    };
    experiment.privacy = Some(asked);
    let out = folder.path().join("out");
    let summary = run(experiment, out.clone()).summary;
    let privacy = summary.privacy.unwrap();
    assert_eq!((privacy.participants.len(), privacy.batch), (4, 4));
    for one in &privacy.participants {
        // Twelve records each: the noise was made for just this epsilon.
        assert!(5.99 < one.epsilon && one.epsilon <= 6.0, "{one:?}");
        assert_eq!(one.steps, 6);
        assert!(one.loss.is_finite());
        assert!(out.join(format!("ledgers/{}.privacy", one.name)).exists());
    }
    assert_ne!(privacy.adapter_sha256, summary.adapter_sha256);
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("What privacy costs"));
    let weights = std::fs::read_to_string(out.join("runs/private/rounds.jsonl")).unwrap();
    let first: RoundRecord = serde_json::from_str(weights.lines().next().unwrap()).unwrap();
    assert!(
        first
            .participants
            .iter()
            .all(|one| one.weight == 1 && one.train_loss.is_none())
    );
}

#[test]
fn a_run_that_protects_institutions_reports_what_each_round_has_cost_them() {
    let folder = workplace();
    let mut experiment = experiment(folder.path());
    experiment.participant_privacy.enabled = true;
    experiment.participant_privacy.force = true;
    let out = folder.path().join("out");
    let summary = run(experiment, out.clone()).summary;
    let text = std::fs::read_to_string(out.join("rounds.jsonl")).unwrap();
    let rounds = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let costs: Vec<_> = rounds
        .map(|round: RoundRecord| round.participant_privacy.unwrap())
        .collect();
    assert_eq!(costs.len(), 3);
    assert!(
        costs.is_sorted_by(|one, next| one.epsilon < next.epsilon),
        "{costs:?}"
    );
    let last = &costs[2];
    let said = summary.participant_privacy.unwrap();
    assert_eq!(
        (said.epsilon, said.delta, said.expected),
        (last.epsilon, last.delta, 4)
    );
    let report = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("Whether an institution took part"));
    for cost in &costs {
        assert!(
            report.contains(&format!("<td>{:.4}</td>", cost.epsilon)),
            "{cost:?}"
        );
    }
    // A loss would tell what no noise covers.
    assert!(text.contains("\"epsilon\"") && !text.contains("train_loss"));
}
