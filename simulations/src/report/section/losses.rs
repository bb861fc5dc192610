//! Held-out loss of each institution.

use crate::report::Report;
use crate::report::chart::{self, Chart, FromZero, Series};
use crate::report::table::{Table, difference, nats, perplexity};
use crate::summary::{Arm, ParticipantSummary};

/// Loss per institution: base, alone, federated, federated with EWC.
pub(in crate::report) fn losses(report: &Report<'_>) -> String {
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
