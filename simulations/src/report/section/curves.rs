//! Training loss step by step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::report::Report;
use crate::report::chart::{self, Chart, FromZero, Series, escaped};
use crate::report::table::{Table, nats};
use crate::summary::Arm;

/// Training loss over steps, one plot per institution.
pub(in crate::report) fn curves(report: &Report<'_>) -> String {
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
