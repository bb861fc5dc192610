//! The report shows every number of the summary, nothing from outside, and stays well-formed.

use serde_json::Value;

use super::*;
use crate::summary::*;

fn participant(name: &str, shift: f64) -> ParticipantSummary {
    let (base, alone, federated, without) =
        (2.5 + shift, 1.4321 + shift, 1.3218 + shift, 1.3017 + shift);
    ParticipantSummary {
        name: name.to_owned(),
        examples: 48,
        held_out_examples: 24,
        held_out_tokens: 1234,
        loss_base: base,
        loss_alone: alone,
        loss_federated: federated,
        loss_federated_without_ewc: without,
        perplexity_base: base.exp(),
        perplexity_alone: alone.exp(),
        perplexity_federated: federated.exp(),
        perplexity_federated_without_ewc: without.exp(),
    }
}

fn private(name: &str, epsilon: f64, loss: f64) -> PrivateParticipant {
    PrivateParticipant {
        name: name.to_owned(),
        epsilon,
        sampling_rate: 0.0625,
        steps: 18,
        loss,
    }
}

fn summary() -> Summary {
    let participants = vec![
        participant("north <clinic>", 0.0),
        participant("south", 0.25),
    ];
    Summary {
        model: "tiny & small".to_owned(),
        model_fingerprint: "ab".repeat(32),
        seed: 4711,
        rounds: 6,
        local_steps: 3,
        learning_rate: 0.00123,
        ewc_lambda: 0.7,
        mean: MeanSummary::of(&participants),
        participants,
        hostile: Vec::new(),
        general: GeneralSummary::of(3.0123, 3.0456, 3.0987, 2345, 6789),
        privacy: Some(PrivacySummary {
            delta: 1e-5,
            noise_multiplier: 1.2345,
            clip_norm: 0.75,
            batch: 24,
            participants: vec![
                private("north <clinic>", 7.891, 1.5123),
                private("south", 3.456, 1.6234),
            ],
            mean_loss: 1.5678,
            general_loss: 3.0567,
            adapter_sha256: "34".repeat(32),
        }),
        participant_privacy: Some(ParticipantPrivacySummary {
            epsilon: 3.2109,
            delta: 1e-6,
            expected: 137,
        }),
        bytes_up: 11_111_111,
        bytes_down: 22_222_222,
        seconds: 345.6,
        phases: vec![
            PhaseSummary {
                name: "load".to_owned(),
                seconds: 1.5,
            },
            PhaseSummary {
                name: "train".to_owned(),
                seconds: 333.3,
            },
        ],
        peak_memory_bytes: Some(1_987_654_321),
        device: "cpu".to_owned(),
        adapter_sha256: "cd".repeat(32),
        adapter_sha256_without_ewc: "ef".repeat(32),
    }
}

fn round(number: u32) -> RoundRecord {
    RoundRecord {
        round: number,
        seconds: 12.34,
        participants: vec![RoundParticipant {
            name: "south".to_owned(),
            weight: 17,
            bytes: 999,
            train_loss: Some(1.8765),
            distance: None,
            left_out: false,
        }],
        refused: vec![RoundRefusal {
            name: "north <clinic>".to_owned(),
            reason: "over-norm".to_owned(),
            detail: Some("update norm 12 is over the limit 10".to_owned()),
        }],
        missing: vec!["north <clinic>".to_owned()],
        rule: None,
        update_norm: 0.5432,
        inexactness: Some(0.0321),
        rounding: 0.0012,
        update_rounding: Some(0.0071),
        participant_privacy: Some(RoundParticipantPrivacy {
            clip_norm: 0.2468,
            expected: 137,
            noise: 0.001_357,
            epsilon: 2.6_f64 + f64::from(number) / 8.0,
            delta: 1e-6,
        }),
        bytes_up: 8_765_432,
        bytes_down: 7_654_321,
        adapter_sha256: "12".repeat(32),
    }
}

fn page() -> String {
    let steps: Vec<StepRecord> = [Arm::Alone, Arm::WithoutEwc, Arm::Federated]
        .into_iter()
        .flat_map(|arm| {
            (1..=3).map(move |step| StepRecord {
                arm,
                participant: "south".to_owned(),
                step,
                loss: 2.0 / step as f64 + arm as usize as f64 * 0.1,
            })
        })
        .collect();
    Report {
        summary: &summary(),
        rounds: &[round(1), round(2)],
        rounds_without_ewc: &[round(1)],
        steps: &steps,
        institutions: &[("south".to_owned(), "A bank.".to_owned())],
    }
    .to_html()
}

/// The page without the copy of summary.json at its end.
fn tables() -> String {
    let page = page();
    page[..page.find("<pre>").unwrap()].to_owned()
}

/// A number as a table may show it: exactly, or with four, two or one decimals.
fn forms(number: &serde_json::Number) -> Vec<String> {
    let value = number.as_f64().unwrap();
    let mut forms = vec![number.to_string()];
    for decimals in [4, 2, 1] {
        forms.push(format!("{value:.decimals$}"));
        forms.push(format!("{value:+.decimals$}"));
    }
    forms
}

fn check(path: &str, value: &Value, page: &str) {
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(key, value)| check(&format!("{path}.{key}"), value, page));
        }
        Value::Array(items) => items.iter().for_each(|value| check(path, value, page)),
        Value::Number(number) => {
            assert!(
                forms(number).iter().any(|form| page.contains(form)),
                "{path}: {number}"
            );
        }
        Value::String(text) => assert!(page.contains(&chart::escaped(text)), "{path}: {text}"),
        Value::Null | Value::Bool(_) => {}
    }
}

#[test]
fn every_number_of_the_summary_stands_in_a_table() {
    check(
        "summary",
        &serde_json::to_value(summary()).unwrap(),
        &tables(),
    );
}

#[test]
fn every_round_refusal_and_step_is_shown() {
    let page = tables();
    for shown in [
        "0.5432",
        "0.0321",
        "8765432",
        "1.8765",
        "update norm 12 is over the limit 10",
        "0.7667",
        // Of institutions: epsilon after each round, the norm, the noise.
        "2.7250",
        "2.8500",
        "0.2468",
        "1.357e-3",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
    assert!(page.contains("did not deliver"));
}

#[test]
fn a_robust_round_shows_its_rule_who_was_left_out_and_who_was_hostile() {
    let mut summary = summary();
    summary.hostile = vec!["north <clinic>".to_owned()];
    let mut one = round(1);
    one.rule = Some("krum with byzantine 1 and keep 1".to_owned());
    one.participants[0].distance = Some(0.4711);
    one.participants[0].left_out = true;
    let report = Report {
        summary: &summary,
        rounds: &[one],
        rounds_without_ewc: &[],
        steps: &[],
        institutions: &[],
    };
    let section = strategy::strategy(&report);
    for shown in [
        "north &lt;clinic&gt;",
        "krum with byzantine 1 and keep 1",
        "0.4711",
        "<td>1</td>",
    ] {
        assert!(section.contains(shown), "{shown} in {section}");
    }
    assert!(!page().contains("<h2>Strategy</h2>"));
}

#[test]
fn a_run_without_privacy_of_institutions_says_nothing_of_it() {
    let mut summary = summary();
    summary.participant_privacy = None;
    let report = Report {
        summary: &summary,
        rounds: &[round(1)],
        rounds_without_ewc: &[],
        steps: &[],
        institutions: &[],
    };
    assert_eq!(participants::privacy(&report), "");
}

#[test]
fn the_page_needs_nothing_from_outside_and_runs_no_script() {
    let page = page().replace("http://www.w3.org/2000/svg", "");
    for outside in [
        "http:", "https:", "<script", "<link", "src=", "@import", "url(",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn names_are_escaped_and_tags_are_closed() {
    let page = page();
    assert!(!page.contains("<clinic>"));
    for tag in [
        "table", "svg", "figure", "details", "tr", "td", "h2", "text", "div", "ul",
    ] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn required_keys_of_the_summary_are_there() {
    let value = serde_json::to_value(summary()).unwrap();
    for key in [
        "model",
        "seed",
        "rounds",
        "participants",
        "general",
        "bytes_up",
        "bytes_down",
        "seconds",
        "adapter_sha256",
    ] {
        assert!(value.get(key).is_some(), "{key}");
    }
    for key in [
        "name",
        "examples",
        "loss_base",
        "loss_alone",
        "loss_federated",
    ] {
        assert!(value["participants"][0].get(key).is_some(), "{key}");
    }
    for key in ["loss_base", "loss_federated", "loss_federated_without_ewc"] {
        assert!(value["general"].get(key).is_some(), "{key}");
    }
}
