//! Prometheus's text format, version 0.0.4: families of samples with a name, labels and a value.
//!
//! Written from the description of the format (prometheus.io, "Exposition formats"). It knows nothing of runs.

use std::fmt::Write;

use super::histogram::Histogram;

/// The media type of a page.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of number a family has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// It never falls while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by class.
    Histogram,
}

/// A page of families, in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family { page: self, name }
    }

    /// Writes a family of one sample without labels.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// Writes a family of one count without labels.
    pub(super) fn counter(&mut self, name: &'static str, help: &str, value: f64) {
        self.family(name, Kind::Counter, help).sample(&[], value);
    }

    /// Writes a family of one histogram without labels.
    pub(super) fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        self.family(name, Kind::Histogram, help);
        for (bound, count) in histogram.cumulative() {
            let bound = number(bound);
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        self.line(format_args!("{name}_sum {}", number(histogram.sum())));
        self.line(format_args!("{name}_count {}", histogram.count()));
    }

    /// Gives the text.
    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// A family that is being written.
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// Writes a sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let (name, value) = (self.name, number(value));
        if labels.is_empty() {
            self.page.line(format_args!("{name} {value}"));
        } else {
            let labels = labels.join(",");
            self.page.line(format_args!("{name}{{{labels}}} {value}"));
        }
        self
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

/// A value as the format has it. The shortest digits that lead back to it.
fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_known_text() {
        let mut page = Page::default();
        page.family("http_requests_total", Kind::Counter, "The total number.")
            .sample(&[("method", "post"), ("code", "200")], 1027.0)
            .sample(&[("method", "post"), ("code", "400")], 3.0);
        page.gauge("temperature_celsius", "How warm.", -2.5);
        page.counter("metric_without_labels_total", "Some.", 12.0);
        let mut durations = Histogram::new(&[0.05, 1.0]);
        durations.observe(0.05);
        durations.observe(17.5);
        page.histogram("duration_seconds", "How long.", &durations);
        let known = "\
# HELP http_requests_total The total number.
# TYPE http_requests_total counter
http_requests_total{method=\"post\",code=\"200\"} 1027
http_requests_total{method=\"post\",code=\"400\"} 3
# HELP temperature_celsius How warm.
# TYPE temperature_celsius gauge
temperature_celsius -2.5
# HELP metric_without_labels_total Some.
# TYPE metric_without_labels_total counter
metric_without_labels_total 12
# HELP duration_seconds How long.
# TYPE duration_seconds histogram
duration_seconds_bucket{le=\"0.05\"} 1
duration_seconds_bucket{le=\"1\"} 1
duration_seconds_bucket{le=\"+Inf\"} 2
duration_seconds_sum 17.55
duration_seconds_count 2
";
        assert_eq!(page.into_text(), known);
    }

    #[test]
    fn quotes_backslashes_and_line_ends_are_escaped_where_the_format_asks_for_it() {
        let mut page = Page::default();
        page.family("odd", Kind::Gauge, "a \"b\" \\ c\nd")
            .sample(&[("path", "C:\\x\n\"y\"")], 1.0);
        let known = "# HELP odd a \"b\" \\\\ c\\nd\n# TYPE odd gauge\nodd{path=\"C:\\\\x\\n\\\"y\\\"\"} 1\n";
        assert_eq!(page.into_text(), known);
    }

    #[test]
    fn values_have_all_their_digits_and_the_formats_words_for_what_is_not_finite() {
        let cases = [
            (0.0, "0"),
            (1.0e15, "1000000000000000"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
