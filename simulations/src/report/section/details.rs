//! Time, fingerprints, and the summary as it was written.

use crate::report::Report;
use crate::report::chart::{self, Chart, FromZero, Series, escaped};
use crate::report::table::{Table, bytes, seconds};

/// Time per phase.
pub(in crate::report) fn phases(report: &Report<'_>) -> String {
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
pub(in crate::report) fn details(report: &Report<'_>) -> String {
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
