//! `foedus-server transcript`: what is on record about a run, and whether it can be believed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::transcript::{Line, Verdict};

use super::{Failure, exit};
use crate::transcript::{Audit, AuditedRound, audit};

/// What to do with a transcript.
#[derive(Debug, Subcommand)]
pub(super) enum TranscriptCommand {
    /// Check every record: signatures, hash chain, lines; for a run's folder also its rounds.jsonl and every adapter present
    Verify(Place),
    /// Do the same, and print the outcome of each round
    Show(Place),
}

/// Where a transcript is, and who vouches for its signer.
#[derive(Args, Debug)]
pub(super) struct Place {
    /// A run's folder, OUT/NAME, or a copied transcript.jsonl
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The certificate of the federation's authority, PEM
    #[arg(long, value_name = "FILE")]
    authority: PathBuf,
}

impl TranscriptCommand {
    /// Does it, and gives the answer.
    pub(super) fn answer(&self) -> Result<String, Failure> {
        let (Self::Verify(place) | Self::Show(place)) = self;
        let audit = audit(&place.path, &place.authority)
            .map_err(|error| Failure::new(exit::FAILURE, error))?;
        let rounds = audit.rounds.iter().map(|round| told(round, &audit));
        let mut text: String = match self {
            Self::Show(_) => rounds.collect(),
            Self::Verify(_) => String::new(),
        };
        text.push_str(&verdict(&audit));
        Ok(text)
    }
}

fn verdict(audit: &Audit) -> String {
    let compared = match audit.adapters.as_slice() {
        [] => String::new(),
        folders => format!(
            "    adapters on disk that are the ones on record: {}\n",
            folders.join(", ")
        ),
    };
    format!(
        "ok: {} rounds of plan {} signed by {}\n{compared}    last record {}; compare it with what each participant's client printed",
        audit.rounds.len(),
        audit.plan,
        audit.server,
        audit.last,
    )
}

fn told(round: &AuditedRound, audit: &Audit) -> String {
    let heading = &round.record.heading;
    let mut text = format!(
        "round {}: adapter {}, certificate {}, record {}\n",
        heading.round,
        heading.adapter,
        round.serial,
        heading.hash()
    );
    for line in &round.record.lines {
        text.push_str(&told_line(line, audit));
    }
    text
}

fn told_line(line: &Line, audit: &Audit) -> String {
    let who = match audit.names.get(&line.participant) {
        Some(name) => name.to_string(),
        None => line.participant.to_string(),
    };
    match line.verdict {
        Verdict::Accepted { update, weight } => {
            format!("    {who}: accepted, weight {weight}, update {update}\n")
        }
        Verdict::Refused { reason } => format!("    {who}: refused, {}\n", reason.label()),
        Verdict::Missing => format!("    {who}: missing\n"),
    }
}
