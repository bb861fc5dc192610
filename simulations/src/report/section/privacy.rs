//! What differential privacy promised and cost.

use crate::report::Report;
use crate::report::chart::escaped;
use crate::report::table::{Table, difference, nats};

/// What privacy promised and cost, if there was a private run.
pub(in crate::report) fn privacy(report: &Report<'_>) -> String {
    let Some(privacy) = &report.summary.privacy else {
        return String::new();
    };
    let mut table = Table::new([
        "institution",
        "epsilon",
        "sampling rate",
        "steps",
        "federated + EWC",
        "with privacy",
        "cost",
    ]);
    for (private, plain) in privacy
        .participants
        .iter()
        .zip(&report.summary.participants)
    {
        table.row(vec![
            private.name.clone(),
            format!("{:.4}", private.epsilon),
            format!("{:.4}", private.sampling_rate),
            private.steps.to_string(),
            nats(plain.loss_federated),
            nats(private.loss),
            difference(private.loss - plain.loss_federated),
        ]);
    }
    let mean = report.summary.mean.loss_federated;
    table.mean(vec![
        "mean".to_owned(),
        String::new(),
        String::new(),
        String::new(),
        nats(mean),
        nats(privacy.mean_loss),
        difference(privacy.mean_loss - mean),
    ]);
    format!(
        "<h2>What privacy costs</h2>\n<p>The same federation with EWC under differential privacy by record: noise multiplier {:.4}, \
         gradients of records clipped to {}, {} records a step on average. Epsilon is counted at delta {} by each institution's \
         ledger; the smaller, the less an update tells about any one record. General English: {} nats per token, {} against the base. The private adapter has SHA-256 {}.</p>\n{}",
        privacy.noise_multiplier,
        privacy.clip_norm,
        privacy.batch,
        privacy.delta,
        nats(privacy.general_loss),
        difference(privacy.general_loss - report.summary.general.loss_base),
        escaped(&privacy.adapter_sha256),
        table.to_html("Held-out loss under differential privacy, nats per response token")
    )
}
