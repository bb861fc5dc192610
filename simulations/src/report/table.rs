//! A table of text cells, and how numbers are written in it.

use super::chart::escaped;

/// A table: column heads, rows, and whether the last row is a mean.
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<(bool, Vec<String>)>,
}

impl Table {
    /// An empty table with these column heads.
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            head: head.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push((false, cells));
    }

    /// Adds the row of means.
    pub(super) fn mean(&mut self, cells: Vec<String>) {
        self.rows.push((true, cells));
    }

    /// The table as HTML; it scrolls sideways on a narrow screen.
    pub(super) fn to_html(&self, caption: &str) -> String {
        let head: String = self
            .head
            .iter()
            .map(|cell| format!("<th scope=\"col\">{}</th>", escaped(cell)))
            .collect();
        let rows: String = self
            .rows
            .iter()
            .map(|(mean, cells)| {
                let class = if *mean { " class=\"mean\"" } else { "" };
                let cells: String = cells
                    .iter()
                    .map(|cell| format!("<td>{}</td>", escaped(cell)))
                    .collect();
                format!("<tr{class}>{cells}</tr>\n")
            })
            .collect();
        format!(
            "<div class=\"scroll\"><table><caption class=\"soft\">{}</caption>\
             <thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>\n",
            escaped(caption)
        )
    }
}

/// A loss in nats.
pub(super) fn nats(value: f64) -> String {
    format!("{value:.4}")
}

/// A difference of losses, with its sign.
pub(super) fn difference(value: f64) -> String {
    format!("{value:+.4}")
}

/// A perplexity.
pub(super) fn perplexity(value: f64) -> String {
    format!("{value:.2}")
}

/// Seconds.
pub(super) fn seconds(value: f64) -> String {
    format!("{value:.1}")
}

/// Bytes, exactly and readably.
pub(super) fn bytes(value: u64) -> String {
    const MEBIBYTE: f64 = 1_048_576.0;
    format!("{value} ({:.1} MiB)", value as f64 / MEBIBYTE)
}
