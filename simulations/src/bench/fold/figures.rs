//! What folding took, for programs and for people.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{FoldScenario, Strategy};

/// What one strategy took.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct FoldFigures {
    /// Which.
    pub strategy: Strategy,
    /// Judging all updates (finite, norm), which is done as they arrive, in seconds.
    pub admit_seconds: f64,
    /// Adding them up as they arrive, in seconds; a robust rule adds nothing up.
    pub fold_seconds: f64,
    /// From the round's close to the next adapter, in seconds.
    pub close_seconds: f64,
    /// Bytes of updates over the seconds of folding and closing, in 10^9 a second.
    pub gb_per_s: f64,
    /// The same with judging.
    pub gb_per_s_with_admission: f64,
    /// Peak resident memory of the process, which holds the global adapter and the next one, in 10^6 bytes.
    pub peak_rss_mb: f64,
}

/// All strategies beside a memory copy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FoldReport {
    /// What was folded.
    #[serde(flatten)]
    pub scenario: FoldScenario,
    /// Bytes of all updates.
    pub update_bytes: u64,
    /// Cores.
    pub cores: usize,
    /// The updates' bytes copied in memory on one core, in 10^9 a second.
    pub copy_gb_per_s: f64,
    /// The same on all cores.
    pub copy_all_cores_gb_per_s: f64,
    /// What each strategy took.
    pub strategies: Vec<FoldFigures>,
}

impl FoldReport {
    /// The figures for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = format!(
            "{} updates of {} MB ({:?}), {:.0} MB in all, {} cores\nmemory copy: {:.1} GB/s on one core, {:.1} GB/s on all\n\
             strategy           admit s  fold s  close s   GB/s  with admission  peak MB\n",
            self.scenario.participants,
            self.scenario.megabytes,
            self.scenario.transfer,
            self.update_bytes as f64 / 1e6,
            self.cores,
            self.copy_gb_per_s,
            self.copy_all_cores_gb_per_s,
        );
        for one in &self.strategies {
            let name = format!("{:?}", one.strategy);
            let _ = writeln!(
                words,
                "{name:<18} {:7.3} {:7.3} {:8.3} {:6.2} {:15.2} {:8.0}",
                one.admit_seconds,
                one.fold_seconds,
                one.close_seconds,
                one.gb_per_s,
                one.gb_per_s_with_admission,
                one.peak_rss_mb,
            );
        }
        words
    }
}
