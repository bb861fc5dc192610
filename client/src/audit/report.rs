//! The findings as one HTML file that an officer can read: what was tried, what was found, what it means.
//!
//! Pictures are SVG in the file; nothing is loaded from anywhere.

use std::fmt::Write as _;

use super::{Findings, Roc};

/// Bits of exposure above the control that count as a leak.
const LEAK_BITS: f64 = 3.0;
/// Area under the curve that counts as one.
const LEAK_AUC: f64 = 0.6;
/// Precision above chance that counts as one.
const LEAK_LIFT: f64 = 2.0;

impl Findings {
    /// Every leak found, a sentence each; none means that these attacks found nothing at this size.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        let control = self
            .exposure
            .iter()
            .find(|group| group.insertions == 0)
            .map_or(0.0, |group| group.mean_bits);
        for group in self.exposure.iter().filter(|group| group.insertions > 0) {
            if group.mean_bits - control >= LEAK_BITS {
                leaks.push(format!(
                    "A secret that stands {} time(s) in the text is {:.1} bits easier to guess than one that never stood there.",
                    group.insertions,
                    group.mean_bits - control
                ));
            }
        }
        let roc = self.membership.best();
        if roc.auc >= LEAK_AUC {
            leaks.push(format!(
                "Records that were trained on can be told from others: a random pair is put right in {:.0} % of cases, and {:.0} % of the \
                 records are recognised with at most 1 % of false alarms.",
                100.0 * roc.auc,
                100.0 * roc.tpr_at_1_percent
            ));
        }
        if self.one_run.epsilon_lower > 0.0 {
            leaks.push(format!(
                "Whether a single record was in the text can be guessed: with 95 % confidence epsilon is at least {:.2} (delta {}).",
                self.one_run.epsilon_lower, self.one_run.delta
            ));
        }
        for span in self
            .span
            .iter()
            .filter(|span| span.target.is_sent() && span.precision >= LEAK_LIFT * span.base_rate)
        {
            leaks.push(format!(
                "From the {} the words behind it can be read: {:.0} % of the {} tokens named are right; chance is {:.0} %.",
                span.target.label(),
                100.0 * span.precision,
                span.tokens,
                100.0 * span.base_rate
            ));
        }
        leaks
    }
}

/// Writes the report.
pub fn to_html(findings: &Findings) -> String {
    let leaks = findings.leaks();
    let verdict = match leaks.len() {
        0 => "These attacks found nothing at this size. That is no proof that there is nothing."
            .to_owned(),
        count => format!("{count} leak(s) found by simple attacks."),
    };
    let items: String = leaks
        .iter()
        .map(|leak| format!("<li>{}</li>", escaped(leak)))
        .collect();
    let noise = match findings.noise_multiplier {
        None => "Trained without differential privacy.".to_owned(),
        Some(noise) => {
            format!("Trained privately, record by record, with noise multiplier {noise}.")
        }
    };
    let unit = if findings.protects_groups {
        " The plan protects all records of a person together; this audit plants and attacks single records, so what it finds about a \
         person with several records is too little."
    } else {
        ""
    };
    let repeated = match findings.repeated {
        0 => String::new(),
        count => format!(
            "{count} records of the site stand there more than once; equal ones are held out together or not at all. "
        ),
    };
    let facts = format!(
        "Base model {}. {} optimizer steps on {} records of this site and {} planted canary records; {} records held out to compare with. {repeated}{noise}{unit}",
        escaped(&findings.base),
        findings.steps,
        findings.members,
        findings.planted,
        findings.outsiders
    );
    let one_run = &findings.one_run;
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Foedus privacy audit</title><style>{STYLE}</style></head><body>\
         <h1>Privacy audit</h1><p class=\"verdict\">{verdict}</p><ul>{items}</ul><p>{facts}</p>\
         <h2>Secrets</h2><p>Sentences with a random number were put into the text 0, 1, 4 and 16 times. Bars: bits by which such a number is \
         easier to guess with the trained model than by chance. A number that was never there has about 1.4 on average.</p>{}\
         <h2>Who was in the data</h2><p>Can records that were trained on be told from records of the same site that were not? Curve: share of \
         trained-on records recognised, against the share of others wrongly recognised; the diagonal is guessing. Area {:.3} by loss, {:.3} \
         calibrated by the base model; recognised at 1 % false alarms: {:.1} % and {:.1} %.</p>{}\
         <h2>One record more or less</h2><p>{} canaries were put in once or left out by the toss of a coin. Of {} guesses {} were right. With \
         95 % confidence the training is not differentially private for any epsilon below {:.2} (delta {}).</p>\
         <h2>Words in an update</h2><p>The rows of a LoRA update of the first layer point to the tokens behind it. Bars: share of right tokens \
         among as many as there are; the line is chance. The bare gradient is shown for comparison and is never sent.</p>{}\
         </body></html>\n",
        exposure_chart(findings),
        findings.membership.by_loss.auc,
        findings.membership.calibrated.auc,
        100.0 * findings.membership.by_loss.tpr_at_1_percent,
        100.0 * findings.membership.calibrated.tpr_at_1_percent,
        roc_chart(findings.membership.best()),
        one_run.coins,
        one_run.guesses,
        one_run.right,
        one_run.epsilon_lower,
        one_run.delta,
        span_chart(findings),
    )
}

fn exposure_chart(findings: &Findings) -> String {
    let bars = findings.exposure.iter().map(|group| Bar {
        label: format!("{} x", group.insertions),
        value: group.mean_bits,
        most: group.max_bits,
        shown: format!("{:.1} of {:.1} bits", group.mean_bits, group.max_bits),
        mark: None,
    });
    chart(&bars.collect::<Vec<_>>())
}

fn span_chart(findings: &Findings) -> String {
    let bars = findings.span.iter().map(|span| Bar {
        label: span.target.label().to_owned(),
        value: span.precision,
        most: 1.0,
        shown: format!(
            "{:.0} % ({}; {} tokens)",
            100.0 * span.precision,
            span.place,
            span.tokens
        ),
        mark: Some(span.base_rate),
    });
    chart(&bars.collect::<Vec<_>>())
}

/// One bar of a chart.
struct Bar {
    label: String,
    value: f64,
    most: f64,
    shown: String,
    /// Where chance is.
    mark: Option<f64>,
}

fn chart(bars: &[Bar]) -> String {
    const WIDTH: f64 = 300.0;
    let mut svg = format!("<svg viewBox=\"0 0 760 {}\" role=\"img\">", 28 * bars.len());
    for (row, bar) in bars.iter().enumerate() {
        let (y, length) = (28 * row, WIDTH * (bar.value / bar.most).clamp(0.0, 1.0));
        let (label, shown) = (escaped(&bar.label), escaped(&bar.shown));
        let _ = write!(
            svg,
            "<text x=\"190\" y=\"{}\" text-anchor=\"end\">{label}</text><rect x=\"200\" y=\"{}\" width=\"{WIDTH}\" height=\"18\" class=\"room\"/>\
             <rect x=\"200\" y=\"{}\" width=\"{length:.1}\" height=\"18\" class=\"bar\"/><text x=\"510\" y=\"{}\">{shown}</text>",
            y + 18,
            y + 4,
            y + 4,
            y + 18
        );
        if let Some(mark) = bar.mark {
            let x = 200.0 + WIDTH * (mark / bar.most).clamp(0.0, 1.0);
            let _ = write!(svg, "<path d=\"M{x:.1} {}v22\" class=\"mark\"/>", y + 2);
        }
    }
    svg + "</svg>"
}

fn roc_chart(roc: &Roc) -> String {
    let points: Vec<_> = roc
        .curve
        .iter()
        .map(|(wrong, right)| format!("{:.1},{:.1}", 20.0 + 240.0 * wrong, 250.0 - 240.0 * right))
        .collect();
    format!(
        "<svg viewBox=\"0 0 760 260\" role=\"img\"><rect x=\"20\" y=\"10\" width=\"240\" height=\"240\" class=\"room\"/>\
         <path d=\"M20 250L260 10\" class=\"mark\"/><polyline points=\"{}\" class=\"curve\"/></svg>",
        points.join(" ")
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}.verdict{font-size:1.2rem;font-weight:600}svg{width:100%;font-size:13px}\
.room{fill:#eee}.bar{fill:#246}.mark{stroke:#b40;stroke-width:2;fill:none}.curve{stroke:#246;stroke-width:2;fill:none}";
