//! What an exchange came to, under the names that the peers' benchmarks use.

use std::time::Instant;

use serde::Serialize;

use super::exchange::Processes;
use super::scenario::Scenario;
use crate::experiment::Download;

/// The figures of one exchange; the first round is left out where rounds are averaged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// What was exchanged.
    #[serde(flatten)]
    pub scenario: Scenario,
    /// How the parties were spread over processes.
    pub processes: Processes,
    /// From a round's opening to its adapter, which is then sent: the median round, in seconds.
    pub s_per_round_median: f64,
    /// The same of the slowest round.
    pub s_per_round_max: f64,
    /// From one round's end to the next one's on average, in seconds.
    pub s_period_mean: f64,
    /// Processor time of all processes a round, in seconds.
    pub cpu_s_per_round: f64,
    /// The same for 10^9 bytes moved in either direction, deltas counted as what they come to.
    pub cpu_s_per_gb: f64,
    /// An adapter as it travels whole, in 10^6 bytes.
    pub whole_mb: f64,
    /// What came to each participant in its place in each round from the second on, in 10^6 bytes.
    pub download_mb: Vec<f64>,
    /// Peak resident memory of the server's process, or of the one process, in 10^6 bytes.
    pub server_peak_rss_mb: f64,
    /// The sum of all processes' peaks, in 10^6 bytes.
    pub sum_peak_rss_mb: f64,
    /// Relative L2 error of the final adapter against the closed form.
    pub relative_error: f64,
    /// Whether that is below 1e-5, or with bf16 and int8 below what rounding may cost.
    pub correct: bool,
}

/// When rounds ended and what had been used by then.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    ends: Vec<(Instant, f64)>,
    seconds: Vec<f64>,
    bytes_down: Vec<u64>,
}

impl Timeline {
    /// Notes a round's end, how long it took, all processor time until then, and the bytes of adapters sent in it.
    pub(super) fn note(&mut self, seconds: f64, cpu_seconds: f64, bytes_down: u64) {
        self.ends.push((Instant::now(), cpu_seconds));
        self.seconds.push(seconds);
        self.bytes_down.push(bytes_down);
    }
}

impl Figures {
    pub(super) fn new(
        scenario: Scenario,
        processes: Processes,
        timeline: &Timeline,
        peaks: &[u64],
        relative_error: f64,
    ) -> anyhow::Result<Self> {
        let mut seconds: Vec<f64> = timeline.seconds.iter().skip(1).copied().collect();
        seconds.sort_by(f64::total_cmp);
        let (Some(first), Some(last), Some(&max)) =
            (timeline.ends.first(), timeline.ends.last(), seconds.last())
        else {
            anyhow::bail!("no round was measured");
        };
        let rounds = seconds.len() as f64;
        let cpu_s_per_round = (last.1 - first.1) / rounds;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let moved = scenario.gigabytes_a_round()?;
        let each = u64::from(scenario.participants.get());
        let later = timeline.bytes_down.iter().skip(1);
        let download_mb = later.map(|bytes| megabytes(bytes / each)).collect();
        Ok(Self {
            scenario,
            processes,
            s_per_round_median: f64::midpoint(
                seconds[(seconds.len() - 1) / 2],
                seconds[seconds.len() / 2],
            ),
            s_per_round_max: max,
            s_period_mean: (last.0 - first.0).as_secs_f64() / rounds,
            cpu_s_per_round,
            cpu_s_per_gb: cpu_s_per_round / moved,
            whole_mb: megabytes(scenario.adapter_bytes()?),
            download_mb,
            server_peak_rss_mb: megabytes(peaks.first().copied().unwrap_or(0)),
            sum_peak_rss_mb: megabytes(peaks.iter().sum()),
            relative_error,
            correct: relative_error < scenario.error_max(),
        })
    }

    /// How large deltas were, if there were any.
    fn deltas_in_words(&self) -> String {
        let (Download::Delta, Some(&first), Some(&last)) = (
            self.scenario.download,
            self.download_mb.first(),
            self.download_mb.last(),
        ) else {
            return String::new();
        };
        let share = |megabytes: f64| 100.0 * megabytes / self.whole_mb;
        format!(
            "a delta, first / last round {first:>9.2} MB {last:>9.2} MB of {:.2} MB whole ({:.0} % / {:.0} %)\n",
            self.whole_mb,
            share(first),
            share(last)
        )
    }

    /// The figures as a small table.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Scenario {
            participants,
            megabytes,
            tensors,
            rounds,
            transfer,
            download,
            sums,
        } = self.scenario;
        format!(
            "{participants} participants, {megabytes} MB in {tensors} tensors, {rounds} rounds, {transfer:?}, download {download:?}, sums {sums:?}\n\
             a round, median / slowest   {:>10.4} s {:>10.4} s\n\
             from round to round, mean   {:>10.4} s\n\
             processor time a round      {:>10.3} s {:>10.2} s/GB\n\
             {}\
             peak memory, server / all   {:>8.0} MB {:>10.0} MB\n\
             error of the result         {:>10.1e}, {}\n",
            self.s_per_round_median,
            self.s_per_round_max,
            self.s_period_mean,
            self.cpu_s_per_round,
            self.cpu_s_per_gb,
            self.deltas_in_words(),
            self.server_peak_rss_mb,
            self.sum_peak_rss_mb,
            self.relative_error,
            if self.correct { "right" } else { "WRONG" },
        )
    }
}
