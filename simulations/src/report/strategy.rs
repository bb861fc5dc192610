//! What a robust strategy made of each institution's updates, and who was hostile on purpose.

use std::collections::BTreeMap;

use super::Report;
use super::chart::escaped;
use super::table::{Table, nats};

/// What is known of one institution over all rounds.
#[derive(Default)]
struct Part {
    counted: u32,
    left_out: u32,
    distance: f64,
}

/// The section; empty if updates were averaged and nobody was hostile.
pub(super) fn strategy(report: &Report<'_>) -> String {
    let rule = report.rounds.iter().find_map(|round| round.rule.as_deref());
    let hostile = &report.summary.hostile;
    if rule.is_none() && hostile.is_empty() {
        return String::new();
    }
    let mut page = "<h2>Strategy</h2>\n".to_owned();
    if !hostile.is_empty() {
        page += &format!(
            "<p>Hostile on purpose: {}. It sent the opposite of what it had learnt, as large as the plan lets through, and claimed \
             the largest weight.</p>\n",
            escaped(&hostile.join(", "))
        );
    }
    match rule {
        None => {
            page += "<p>Updates were averaged by weight (fedavg), which bears nobody hostile.</p>\n"
        }
        Some(rule) => {
            page += &format!(
                "<p>{}. Distances are those of an update from the one by which the global adapter was moved.</p>\n{}",
                escaped(rule),
                table(report)
            );
        }
    }
    page
}

fn table(report: &Report<'_>) -> String {
    let mut parts = BTreeMap::<&str, Part>::new();
    for one in report.rounds.iter().flat_map(|round| &round.participants) {
        let part = parts.entry(&one.name).or_default();
        part.counted += 1;
        part.left_out += u32::from(one.left_out);
        part.distance += one.distance.unwrap_or_default();
    }
    let mut table = Table::new(["institution", "rounds", "left out in", "mean distance"]);
    for (name, part) in parts {
        table.row(vec![
            name.to_owned(),
            part.counted.to_string(),
            part.left_out.to_string(),
            nats(part.distance / f64::from(part.counted)),
        ]);
    }
    table.to_html("Federated with EWC")
}
