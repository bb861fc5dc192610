//! What the adapters tell of whether an institution took part, if that was protected.

use super::Report;
use super::chart::{self, Chart, FromZero, Series, escaped};
use super::table::Table;
use crate::summary::{Arm, RoundRecord};

/// The section; empty without privacy of whole institutions.
pub(super) fn privacy(report: &Report<'_>) -> String {
    let Some(privacy) = &report.summary.participant_privacy else {
        return String::new();
    };
    let runs = [
        (Arm::WithoutEwc, report.rounds_without_ewc),
        (Arm::Federated, report.rounds),
    ];
    let title = "Epsilon of an institution so far";
    let svg = chart::lines(&Chart {
        title: title.to_owned(),
        unit: format!("epsilon at delta {}, lower is better", privacy.delta),
        names: vec!["round".to_owned()],
        series: runs.map(|(arm, rounds)| series(arm, rounds)).into(),
        from_zero: FromZero::Yes,
    });
    format!(
        "<h2>Whether an institution took part</h2>\n<p>The server divided each sum by {} and put noise on it, so that adapters tell little \
         of whether any one institution took part. The federated run with EWC has cost an institution epsilon {:.4} at delta {}. Each \
         run is counted by itself: who gets the adapters of several learns as much as from all of them. The server, which knows its \
         noise, is not kept from anything.</p>\n<figure><h3>{}</h3>{svg}</figure>\n{}{}",
        privacy.expected,
        privacy.epsilon,
        privacy.delta,
        escaped(title),
        table(report.rounds, "Federated with EWC"),
        table(report.rounds_without_ewc, "Federated without EWC"),
    )
}

fn series(arm: Arm, rounds: &[RoundRecord]) -> Series {
    let point = |round: &RoundRecord| {
        let privacy = round.participant_privacy.as_ref()?;
        Some((f64::from(round.round), privacy.epsilon))
    };
    Series {
        colour: 1 + arm as usize,
        label: arm.label().to_owned(),
        values: rounds.iter().filter_map(point).collect(),
    }
}

fn table(rounds: &[RoundRecord], caption: &str) -> String {
    let mut table = Table::new([
        "round",
        "epsilon so far",
        "norm of an update",
        "noise on a value",
    ]);
    for round in rounds {
        if let Some(privacy) = &round.participant_privacy {
            table.row(vec![
                round.round.to_string(),
                format!("{:.4}", privacy.epsilon),
                format!("{:.4}", privacy.clip_norm),
                format!("{:.3e}", privacy.noise),
            ]);
        }
    }
    table.to_html(caption)
}
