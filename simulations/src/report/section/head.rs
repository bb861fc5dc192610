//! Title, answer and main figures.

use std::fmt::Write as _;

use crate::report::Report;
use crate::report::chart::escaped;
use crate::report::table::{difference, nats, seconds};

/// Title, the answer in one paragraph, and the main figures.
pub(in crate::report) fn head(report: &Report<'_>) -> String {
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
