//! The report: one HTML file without any outside resource, with plots and the same numbers in tables.
//!
//! It only shows what [`Summary`] and the records hold; it computes nothing but differences, sums and means for display.

pub mod chart;
mod participants;
mod section;
mod strategy;
mod table;

use crate::summary::{RoundRecord, StepRecord, Summary};

/// The look of the page, light and dark.
const STYLE: &str = include_str!("report/style.css");

/// Everything a report shows.
pub struct Report<'a> {
    /// The figures.
    pub summary: &'a Summary,
    /// The rounds of the federated run with EWC.
    pub rounds: &'a [RoundRecord],
    /// The rounds of the run without EWC.
    pub rounds_without_ewc: &'a [RoundRecord],
    /// The training loss of every step.
    pub steps: &'a [StepRecord],
    /// One sentence per institution: name and what it is.
    pub institutions: &'a [(String, String)],
}

impl Report<'_> {
    /// The page.
    #[must_use]
    pub fn to_html(&self) -> String {
        let model = chart::escaped(&self.summary.model);
        let body = [
            section::head(self),
            section::losses(self),
            section::general(self),
            section::privacy(self),
            participants::privacy(self),
            section::curves(self),
            section::rounds(self),
            strategy::strategy(self),
            section::refusals(self),
            section::phases(self),
            section::details(self),
        ]
        .concat();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>Foedus: {model}</title>\n<style>\n{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
        )
    }
}

#[cfg(test)]
mod tests;
