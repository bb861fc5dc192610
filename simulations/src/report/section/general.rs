//! General English, and what was forgotten of it.

use crate::report::Report;
use crate::report::chart::{self, Chart, FromZero, Series};
use crate::report::table::{Table, difference, nats, perplexity};
use crate::summary::Arm;

/// General English before and after.
pub(in crate::report) fn general(report: &Report<'_>) -> String {
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
