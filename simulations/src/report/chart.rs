//! Plots as inline SVG: grouped bars and lines, drawn with a viewBox and coloured by style classes.
//!
//! It is not a plotting library: no interaction, no automatic dates, linear axes only. Every plot has a
//! title and a description for screen readers, and the page shows the same numbers in a table.

use std::fmt::Write as _;

/// Plot width in user units; the page scales it.
const WIDTH: f64 = 720.0;
/// Plot height in user units.
const HEIGHT: f64 = 300.0;
/// Room for the labels of the left axis.
const LEFT: f64 = 52.0;
/// Room for the labels below.
const BOTTOM: f64 = 36.0;
/// Room above for the legend.
const TOP: f64 = 30.0;
/// Room at the right.
const RIGHT: f64 = 12.0;

/// One coloured row of values.
pub struct Series {
    /// Its colour, by number: 0 base, 1 alone, 2 without EWC, 3 with EWC.
    pub colour: usize,
    /// Its name in the legend.
    pub label: String,
    /// Its values: one per group of bars, or points of a line.
    pub values: Vec<(f64, f64)>,
}

/// What a plot shows.
pub struct Chart {
    /// What it is.
    pub title: String,
    /// What the vertical axis counts.
    pub unit: String,
    /// Names below the groups of bars, or of the horizontal axis (one name) under lines.
    pub names: Vec<String>,
    /// The rows.
    pub series: Vec<Series>,
    /// Whether the vertical axis starts at nought.
    pub from_zero: FromZero,
}

/// Where the vertical axis starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromZero {
    /// At nought: lengths are comparable.
    Yes,
    /// Just below the smallest value.
    No,
}

/// A vertical axis with round marks.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn around(values: impl Iterator<Item = f64>, from_zero: FromZero) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if !low.is_finite() {
            (low, high) = (0.0, 1.0);
        }
        if from_zero == FromZero::Yes {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if high - low <= f64::EPSILON * high.abs().max(1.0) {
            high = low + low.abs().max(1.0) * 0.1;
        }
        let step = round_step((high - low) / 4.0);
        Self {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            step,
        }
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM)
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|number| self.low + number as f64 * self.step)
    }
}

/// The next of 1, 2, 2.5, 5 times a power of ten that is at least `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999_999)
        .unwrap_or(10.0 * power)
}

/// Groups of bars, one group per name, one bar per series.
#[must_use]
pub fn bars(chart: &Chart) -> String {
    let axis = Axis::around(values(chart), chart.from_zero);
    let mut svg = open(chart, &axis);
    let group = (WIDTH - LEFT - RIGHT) / chart.names.len().max(1) as f64;
    let bar = (group * 0.8 / chart.series.len().max(1) as f64).min(72.0);
    let inset = (group - bar * chart.series.len() as f64) / 2.0;
    for (place, name) in chart.names.iter().enumerate() {
        let start = LEFT + group * place as f64 + inset;
        for (row, series) in chart.series.iter().enumerate() {
            let colour = series.colour;
            let Some(&(_, value)) = series.values.get(place) else {
                continue;
            };
            if !value.is_finite() {
                continue;
            }
            let x = start + bar * row as f64;
            let (top, foot) = (axis.y(value), axis.y(axis.low.max(0.0).min(axis.high)));
            let (y, height) = (top.min(foot), (foot - top).abs().max(0.5));
            let label = escaped(&format!("{name}, {}: {value:.4}", series.label));
            let _ = write!(
                svg,
                "<rect class=\"s{colour}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" \
                 height=\"{height:.1}\"><title>{label}</title></rect>",
                bar - 2.0
            );
            let _ = write!(
                svg,
                "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{value:.2}</text>",
                x + bar / 2.0 - 1.0,
                y - 3.0
            );
        }
        let middle = LEFT + group * (place as f64 + 0.5);
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>",
            HEIGHT - BOTTOM + 18.0,
            escaped(name)
        );
    }
    svg + "</svg>"
}

/// Lines over a numeric horizontal axis.
#[must_use]
pub fn lines(chart: &Chart) -> String {
    let axis = Axis::around(values(chart), chart.from_zero);
    let points = || chart.series.iter().flat_map(|series| &series.values);
    let first = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let last = points()
        .map(|point| point.0)
        .fold(f64::NEG_INFINITY, f64::max);
    let span = if last > first { last - first } else { 1.0 };
    let x = |value: f64| LEFT + 8.0 + (value - first) / span * (WIDTH - LEFT - RIGHT - 16.0);
    let mut svg = open(chart, &axis);
    for series in &chart.series {
        let colour = series.colour;
        let mut path = String::new();
        let drawn = || series.values.iter().filter(|point| point.1.is_finite());
        for (number, &(at, value)) in drawn().enumerate() {
            let verb = if number == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{verb}{:.1} {:.1}", x(at), axis.y(value));
        }
        let _ = write!(svg, "<path class=\"line s{colour}\" d=\"{path}\"/>");
        for &(at, value) in drawn() {
            let label = escaped(&format!("{} at {at}: {value:.4}", series.label));
            let _ = write!(
                svg,
                "<circle class=\"s{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.6\"><title>{label}</title>\
                 </circle>",
                x(at),
                axis.y(value)
            );
        }
    }
    if first.is_finite() {
        let every = round_step((span / 8.0).max(1.0)).ceil();
        let mut at = first;
        while at <= last {
            let _ = write!(
                svg,
                "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{at}</text>",
                x(at),
                HEIGHT - BOTTOM + 15.0
            );
            at += every;
        }
    }
    for name in chart.names.iter().take(1) {
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 4.0,
            escaped(name)
        );
    }
    svg + "</svg>"
}

fn values(chart: &Chart) -> impl Iterator<Item = f64> {
    chart
        .series
        .iter()
        .flat_map(|series| series.values.iter().map(|point| point.1))
}

/// The opening tag with title, description, legend, grid and left axis.
fn open(chart: &Chart, axis: &Axis) -> String {
    let rows: Vec<&str> = chart
        .series
        .iter()
        .map(|series| series.label.as_str())
        .collect();
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\
         <title>{}</title><desc>{}: {}. The table below has the numbers.</desc>",
        escaped(&chart.title),
        escaped(&chart.unit),
        escaped(&rows.join(", "))
    );
    let decimals = (1.0 - axis.step.log10().floor()).clamp(0.0, 6.0) as usize;
    for mark in axis.marks() {
        let y = axis.y(mark);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"mark\" x=\"{:.1}\" y=\"{:.1}\">{mark:.decimals$}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        );
    }
    let mut x = LEFT;
    for series in &chart.series {
        let (colour, label) = (series.colour, &series.label);
        let _ = write!(
            svg,
            "<rect class=\"s{colour}\" x=\"{x:.1}\" y=\"4\" width=\"12\" height=\"12\"/>\
             <text class=\"legend\" x=\"{:.1}\" y=\"14\">{}</text>",
            x + 17.0,
            escaped(label)
        );
        x += 34.0 + 7.2 * label.chars().count() as f64;
    }
    svg
}

/// Text with the five characters of HTML and XML replaced.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64]) -> Chart {
        Chart {
            title: "a < b".to_owned(),
            unit: "nats".to_owned(),
            names: vec!["one".to_owned(), "two".to_owned()],
            series: vec![Series {
                colour: 0,
                label: "row".to_owned(),
                values: values
                    .iter()
                    .enumerate()
                    .map(|(at, value)| (at as f64, *value))
                    .collect(),
            }],
            from_zero: FromZero::Yes,
        }
    }

    #[test]
    fn steps_of_an_axis_are_round_numbers() {
        assert!((round_step(0.23) - 0.25).abs() < 1e-12);
        assert!((round_step(0.9) - 1.0).abs() < 1e-12);
        assert!((round_step(3.0) - 5.0).abs() < 1e-12);
        assert!((round_step(7.0) - 10.0).abs() < 1e-12);
    }

    #[test]
    fn a_bar_twice_as_high_is_twice_as_long() {
        let axis = Axis::around([1.0, 2.0].into_iter(), FromZero::Yes);
        let foot = axis.y(0.0);
        assert!(((foot - axis.y(2.0)) / (foot - axis.y(1.0)) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn titles_are_escaped_and_every_value_has_a_label() {
        let svg = bars(&chart(&[1.25, 2.5]));
        assert!(svg.contains("<title>a &lt; b</title>"), "{svg}");
        assert!(
            svg.contains("one, row: 1.2500") && svg.contains("two, row: 2.5000"),
            "{svg}"
        );
    }

    #[test]
    fn empty_equal_and_negative_values_give_finite_coordinates() {
        for values in [
            &[][..],
            &[1.0],
            &[0.0, 0.0],
            &[-0.5, 0.25],
            &[f64::NAN, 1.0],
        ] {
            for svg in [bars(&chart(values)), lines(&chart(values))] {
                assert!(
                    !svg.contains("inf") && !svg.contains("NaN"),
                    "{values:?}: {svg}"
                );
            }
        }
    }
}
