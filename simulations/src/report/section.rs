//! The sections of the page, in reading order.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Report;
use super::chart::{self, Chart, FromZero, Series, escaped};
use super::table::{Table, bytes, difference, nats, perplexity, seconds};
use crate::summary::{Arm, ParticipantSummary, RoundRecord};

/// Title, the answer in one paragraph, and the main figures.
pub(super) fn head(report: &Report<'_>) -> String {
    let summary = report.summary;
    let mut page = format!(
        "<h1>A federation of {} institutions</h1>\n<p class=\"soft\">Base model {}, seed {}, {} rounds of \
         {} steps, on {}.</p>\n<p>{}</p>\n<ul class=\"cards\">",
        summary.participants.len(),
        escaped(&summary.model),
        summary.seed,
        summary.rounds,
        summary.local_steps,
        escaped(&summary.device),
        escaped(&verdict(report)),
    );
    let cards = [
        ("mean loss, base", nats(summary.mean.loss_base)),
        ("mean loss, each alone", nats(summary.mean.loss_alone)),
        (
            "mean loss, federated + EWC",
            nats(summary.mean.loss_federated),
        ),
        (
            "forgetting with EWC",
            difference(summary.general.forgetting),
        ),
        (
            "forgetting without",
            difference(summary.general.forgetting_without_ewc),
        ),
        ("seconds in all", seconds(summary.seconds)),
    ];
    for (label, value) in cards {
        let _ = write!(page, "<li><b>{value}</b>{label}</li>");
    }
    page.push_str("</ul>\n<ul>");
    for (name, description) in report.institutions {
        let _ = write!(
            page,
            "<li><b>{}</b>: {}</li>",
            escaped(name),
            escaped(description)
        );
    }
    page + "</ul>\n"
}

/// What the figures say, in words that follow from them.
fn verdict(report: &Report<'_>) -> String {
    let summary = report.summary;
    let better = summary
        .participants
        .iter()
        .filter(|one| one.loss_federated < one.loss_base)
        .count();
    let against_alone = if summary.mean.loss_federated <= summary.mean.loss_alone {
        "not above"
    } else {
        "above"
    };
    let forgetting = if summary.general.loss_federated < summary.general.loss_federated_without_ewc
    {
        "forgets less general English than"
    } else {
        "forgets no less general English than"
    };
    format!(
        "The federated adapter is better than the base on the held-out text of {better} of {} \
         institutions. Its mean loss is {against_alone} the mean of what each institution reaches alone \
         with the same recipe and as many steps. The run with EWC {forgetting} the run without.",
        summary.participants.len()
    )
}

/// Loss per institution: base, alone, federated, federated with EWC.
pub(super) fn losses(report: &Report<'_>) -> String {
    let people = &report.summary.participants;
    let series = |colour, label: &str, pick: fn(&ParticipantSummary) -> f64| Series {
        colour,
        label: label.to_owned(),
        values: people
            .iter()
            .enumerate()
            .map(|(at, one)| (at as f64, pick(one)))
            .collect(),
    };
    let svg = chart::bars(&Chart {
        title: "Held-out loss per institution".to_owned(),
        unit: "mean nats per response token, lower is better".to_owned(),
        names: people.iter().map(|one| one.name.clone()).collect(),
        series: vec![
            series(0, "base", |one| one.loss_base),
            series(1, Arm::Alone.label(), |one| one.loss_alone),
            series(2, Arm::WithoutEwc.label(), |one| {
                one.loss_federated_without_ewc
            }),
            series(3, Arm::Federated.label(), |one| one.loss_federated),
        ],
        from_zero: FromZero::Yes,
    });
    format!(
        "<h2>What each institution gains</h2>\n<p>Mean nats per response token on text the institution \
         kept back from training; lower is better. \"Alone\" is the same recipe and number of steps without \
         the others.</p>\n<figure>{svg}</figure>\n{}{}",
        loss_table(report),
        perplexity_table(report)
    )
}

fn loss_table(report: &Report<'_>) -> String {
    let mut table = Table::new([
        "institution",
        "trained on",
        "measured on",
        "tokens",
        "base",
        "alone",
        "federated, no EWC",
        "federated + EWC",
        "gain on base",
    ]);
    for one in &report.summary.participants {
        table.row(vec![
            one.name.clone(),
            one.examples.to_string(),
            one.held_out_examples.to_string(),
            one.held_out_tokens.to_string(),
            nats(one.loss_base),
            nats(one.loss_alone),
            nats(one.loss_federated_without_ewc),
            nats(one.loss_federated),
            difference(one.loss_federated - one.loss_base),
        ]);
    }
    let mean = &report.summary.mean;
    table.mean(vec![
        "mean".to_owned(),
        String::new(),
        String::new(),
        String::new(),
        nats(mean.loss_base),
        nats(mean.loss_alone),
        nats(mean.loss_federated_without_ewc),
        nats(mean.loss_federated),
        difference(mean.loss_federated - mean.loss_base),
    ]);
    table.to_html("Held-out loss, nats per response token")
}

fn perplexity_table(report: &Report<'_>) -> String {
    let mut table = Table::new([
        "institution",
        "base",
        "alone",
        "federated, no EWC",
        "federated + EWC",
    ]);
    for one in &report.summary.participants {
        table.row(vec![
            one.name.clone(),
            perplexity(one.perplexity_base),
            perplexity(one.perplexity_alone),
            perplexity(one.perplexity_federated_without_ewc),
            perplexity(one.perplexity_federated),
        ]);
    }
    table.to_html("Held-out perplexity")
}

/// What privacy promised and cost, if there was a private run.
pub(super) fn privacy(report: &Report<'_>) -> String {
    let Some(privacy) = &report.summary.privacy else {
        return String::new();
    };
    let mut table = Table::new([
        "institution",
        "epsilon",
        "sampling rate",
        "steps",
        "federated + EWC",
        "with privacy",
        "cost",
    ]);
    for (private, plain) in privacy
        .participants
        .iter()
        .zip(&report.summary.participants)
    {
        table.row(vec![
            private.name.clone(),
            format!("{:.4}", private.epsilon),
            format!("{:.4}", private.sampling_rate),
            private.steps.to_string(),
            nats(plain.loss_federated),
            nats(private.loss),
            difference(private.loss - plain.loss_federated),
        ]);
    }
    let mean = report.summary.mean.loss_federated;
    table.mean(vec![
        "mean".to_owned(),
        String::new(),
        String::new(),
        String::new(),
        nats(mean),
        nats(privacy.mean_loss),
        difference(privacy.mean_loss - mean),
    ]);
    format!(
        "<h2>What privacy costs</h2>\n<p>The same federation with EWC under differential privacy by record: noise multiplier {:.4}, \
         gradients of records clipped to {}, {} records a step on average. Epsilon is counted at delta {} by each institution's \
         ledger; the smaller, the less an update tells about any one record. General English: {} nats per token, {} against the base. The private adapter has SHA-256 {}.</p>\n{}",
        privacy.noise_multiplier,
        privacy.clip_norm,
        privacy.batch,
        privacy.delta,
        nats(privacy.general_loss),
        difference(privacy.general_loss - report.summary.general.loss_base),
        escaped(&privacy.adapter_sha256),
        table.to_html("Held-out loss under differential privacy, nats per response token")
    )
}

/// General English before and after.
pub(super) fn general(report: &Report<'_>) -> String {
    let general = &report.summary.general;
    let svg = chart::bars(&Chart {
        title: "Loss on general English".to_owned(),
        unit: "mean nats per token, lower is better".to_owned(),
        names: vec!["general English".to_owned()],
        series: [
            (0, "base", general.loss_base),
            (
                2,
                Arm::WithoutEwc.label(),
                general.loss_federated_without_ewc,
            ),
            (3, Arm::Federated.label(), general.loss_federated),
        ]
        .map(|(colour, label, value)| Series {
            colour,
            label: label.to_owned(),
            values: vec![(0.0, value)],
        })
        .into(),
        from_zero: FromZero::No,
    });
    let mut table = Table::new(["model", "loss", "perplexity", "forgetting"]);
    table.row(vec![
        "base".to_owned(),
        nats(general.loss_base),
        perplexity(general.perplexity_base),
        String::new(),
    ]);
    table.row(vec![
        Arm::WithoutEwc.label().to_owned(),
        nats(general.loss_federated_without_ewc),
        perplexity(general.perplexity_federated_without_ewc),
        difference(general.forgetting_without_ewc),
    ]);
    table.row(vec![
        Arm::Federated.label().to_owned(),
        nats(general.loss_federated),
        perplexity(general.perplexity_federated),
        difference(general.forgetting),
    ]);
    format!(
        "<h2>What is forgotten</h2>\n<p>Loss on {} tokens of general English that no institution trained \
         on. EWC (lambda {}) pulls the adapter back where the anchor, measured on {} tokens of other general \
         text, says the base model is sensitive. Forgetting is the loss minus the base model's.</p>\n\
         <figure>{svg}</figure>\n{}",
        general.tokens,
        report.summary.ewc_lambda,
        general.anchor_tokens,
        table.to_html("General English, nats per token")
    )
}

/// Training loss over steps, one plot per institution.
pub(super) fn curves(report: &Report<'_>) -> String {
    let mut page = "<h2>Training loss over steps</h2>\n<p>The loss of each step's examples, before the step; \
                    noisy, since a step sees few examples. A federated institution starts every round from the \
                    merged adapter.</p>\n<div class=\"grid2\">"
        .to_owned();
    for one in &report.summary.participants {
        let series = [Arm::Alone, Arm::WithoutEwc, Arm::Federated].map(|arm| Series {
            colour: 1 + arm as usize,
            label: arm.label().to_owned(),
            values: report
                .steps
                .iter()
                .filter(|step| step.arm == arm && step.participant == one.name)
                .map(|step| (step.step as f64, step.loss))
                .collect(),
        });
        let base = Series {
            colour: 0,
            label: "base (held-out)".to_owned(),
            values: match report.steps.iter().map(|step| step.step).max() {
                Some(last) => vec![(1.0, one.loss_base), (last as f64, one.loss_base)],
                None => Vec::new(),
            },
        };
        let svg = chart::lines(&Chart {
            title: format!("Training loss of {}", one.name),
            unit: "mean nats per response token".to_owned(),
            names: vec!["step".to_owned()],
            series: std::iter::once(base).chain(series).collect(),
            from_zero: FromZero::No,
        });
        let _ = write!(
            page,
            "<figure><h3>{}</h3>{svg}</figure>",
            escaped(&one.name)
        );
    }
    page + "</div>\n" + &step_table(report)
}

fn step_table(report: &Report<'_>) -> String {
    let mut rows: BTreeMap<(&str, u64), BTreeMap<Arm, f64>> = BTreeMap::new();
    for step in report.steps {
        rows.entry((&step.participant, step.step))
            .or_default()
            .insert(step.arm, step.loss);
    }
    let arms = [Arm::Alone, Arm::WithoutEwc, Arm::Federated];
    let mut table = Table::new([
        "institution",
        "step",
        arms[0].label(),
        arms[1].label(),
        arms[2].label(),
    ]);
    for ((name, step), losses) in rows {
        let mut cells = vec![name.to_owned(), step.to_string()];
        cells.extend(
            arms.iter()
                .map(|arm| losses.get(arm).map_or_else(String::new, |one| nats(*one))),
        );
        table.row(cells);
    }
    format!(
        "<details><summary>Every step as numbers</summary>{}</details>\n",
        table.to_html("Training loss, nats per response token")
    )
}

/// Rounds: inexactness, update norm, bytes and time, for both runs.
pub(super) fn rounds(report: &Report<'_>) -> String {
    let series = |arm: Arm, rounds: &[RoundRecord], pick: fn(&RoundRecord) -> f64| Series {
        colour: 1 + arm as usize,
        label: arm.label().to_owned(),
        values: rounds
            .iter()
            .map(|round| (f64::from(round.round), pick(round)))
            .collect(),
    };
    let plot = |title: &str, unit: &str, pick: fn(&RoundRecord) -> f64| {
        let svg = chart::lines(&Chart {
            title: title.to_owned(),
            unit: unit.to_owned(),
            names: vec!["round".to_owned()],
            series: vec![
                series(Arm::WithoutEwc, report.rounds_without_ewc, pick),
                series(Arm::Federated, report.rounds, pick),
            ],
            from_zero: FromZero::Yes,
        });
        format!("<figure><h3>{}</h3>{svg}</figure>", escaped(title))
    };
    // Nobody knows it of updates that the server did not look into.
    let is_known = |round: &RoundRecord| round.inexactness.is_some();
    let inexactness = if report.rounds.iter().all(is_known) {
        plot("Inexactness of the average", "relative error", |round| {
            round.inexactness.unwrap_or_default()
        })
    } else {
        String::new()
    };
    format!(
        "<h2>Rounds</h2>\n<p>LoRA is bilinear: averaging A and B apart is not averaging their product. \
         Inexactness is the relative error that leaves in a round. Federated run with EWC: {} up and {} \
         down.</p>\n<div class=\"grid2\">{}{}</div>\n{}{}",
        bytes(report.summary.bytes_up),
        bytes(report.summary.bytes_down),
        inexactness,
        plot("Norm of the update", "Euclidean norm", |round| round
            .update_norm),
        round_table(report.rounds, "Federated with EWC"),
        round_table(report.rounds_without_ewc, "Federated without EWC"),
    )
}

fn round_table(rounds: &[RoundRecord], caption: &str) -> String {
    let mut table = Table::new([
        "round",
        "delivered",
        "examples",
        "mean train loss",
        "update norm",
        "inexactness",
        "rounding of the adapter sent",
        "of updates",
        "bytes up",
        "bytes down",
        "seconds",
    ]);
    for round in rounds {
        let losses: Vec<f64> = round
            .participants
            .iter()
            .filter_map(|one| one.train_loss)
            .collect();
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        table.row(vec![
            round.round.to_string(),
            round.participants.len().to_string(),
            round
                .participants
                .iter()
                .map(|one| one.weight)
                .sum::<u64>()
                .to_string(),
            if losses.is_empty() {
                String::new()
            } else {
                nats(mean)
            },
            nats(round.update_norm),
            round.inexactness.map(nats).unwrap_or_default(),
            nats(round.rounding),
            round.update_rounding.map(nats).unwrap_or_default(),
            round.bytes_up.to_string(),
            round.bytes_down.to_string(),
            format!("{:.2}", round.seconds),
        ]);
    }
    table.to_html(caption)
}

/// What was refused or missing, and why.
pub(super) fn refusals(report: &Report<'_>) -> String {
    let mut table = Table::new(["run", "round", "institution", "what happened"]);
    let mut found = 0;
    for (arm, rounds) in [
        (Arm::Federated, report.rounds),
        (Arm::WithoutEwc, report.rounds_without_ewc),
    ] {
        for round in rounds {
            let refused = round.refused.iter().map(|one| {
                let detail = one
                    .detail
                    .as_ref()
                    .map_or_else(String::new, |detail| format!(", {detail}"));
                (&one.name, format!("refused: {}{detail}", one.reason))
            });
            let missing = round
                .missing
                .iter()
                .map(|name| (name, "did not deliver".to_owned()));
            for (name, what) in refused.chain(missing) {
                found += 1;
                table.row(vec![
                    arm.label().to_owned(),
                    round.round.to_string(),
                    name.clone(),
                    what,
                ]);
            }
        }
    }
    let body = if found == 0 {
        "<p>Nothing was refused, and nobody was missing in any round.</p>\n".to_owned()
    } else {
        table.to_html("Refused and missing updates")
    };
    format!("<h2>Refused</h2>\n{body}")
}

/// Time per phase.
pub(super) fn phases(report: &Report<'_>) -> String {
    let phases = &report.summary.phases;
    let svg = chart::bars(&Chart {
        title: "Time per phase".to_owned(),
        unit: "seconds".to_owned(),
        names: phases.iter().map(|phase| phase.name.clone()).collect(),
        series: vec![Series {
            colour: 2,
            label: "seconds".to_owned(),
            values: phases
                .iter()
                .enumerate()
                .map(|(at, one)| (at as f64, one.seconds))
                .collect(),
        }],
        from_zero: FromZero::Yes,
    });
    let mut table = Table::new(["phase", "seconds"]);
    for phase in phases {
        table.row(vec![phase.name.clone(), seconds(phase.seconds)]);
    }
    table.mean(vec!["in all".to_owned(), seconds(report.summary.seconds)]);
    format!(
        "<h2>Time</h2>\n<figure>{svg}</figure>\n{}",
        table.to_html("Wall-clock seconds per phase")
    )
}

/// Fingerprints and the summary as written.
pub(super) fn details(report: &Report<'_>) -> String {
    let summary = report.summary;
    let memory = summary
        .peak_memory_bytes
        .map_or_else(|| "not known".to_owned(), bytes);
    let json = serde_json::to_string_pretty(summary).unwrap_or_default();
    let mut table = Table::new(["what", "value"]);
    for (what, value) in [
        ("base model fingerprint", summary.model_fingerprint.clone()),
        ("adapter SHA-256", summary.adapter_sha256.clone()),
        (
            "adapter SHA-256 without EWC",
            summary.adapter_sha256_without_ewc.clone(),
        ),
        ("learning rate", summary.learning_rate.to_string()),
        ("EWC lambda", summary.ewc_lambda.to_string()),
        ("peak memory", memory),
    ] {
        table.row(vec![what.to_owned(), value]);
    }
    format!(
        "<h2>Details</h2>\n{}<details><summary>summary.json</summary><pre>{}</pre></details>\n",
        table.to_html("What identifies this simulation"),
        escaped(&json)
    )
}
