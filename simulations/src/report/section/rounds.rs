//! Rounds, and what was refused or missing in them.

use crate::report::Report;
use crate::report::chart::{self, Chart, FromZero, Series, escaped};
use crate::report::table::{Table, bytes, nats};
use crate::summary::{Arm, RoundRecord};

/// Rounds: inexactness, update norm, bytes and time, for both runs.
pub(in crate::report) fn rounds(report: &Report<'_>) -> String {
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
pub(in crate::report) fn refusals(report: &Report<'_>) -> String {
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
