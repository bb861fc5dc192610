//! When a delivery counts as moving.

use std::time::{Duration, Instant};

/// How often bytes moved are reported: often enough for any sensible stall limit.
pub(super) const MOVED_INTERVAL: Duration = Duration::from_millis(100);

/// When a delivery is reported as moving: not all the time, and not if it only trickles.
pub(super) struct Pace {
    bytes_per_second_min: u64,
    /// Of the last report, or the beginning.
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(bytes_per_second_min: u64) -> Self {
        Self {
            bytes_per_second_min,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// When it has not moved for so long.
    pub(super) fn stalls_at(&self, limit: Duration) -> Instant {
        self.since + limit
    }

    /// Whether these bytes and those before them are worth a report.
    pub(super) fn is_to_be_told(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        let elapsed = self.since.elapsed();
        let enough = self.bytes_per_second_min as f64 * elapsed.as_secs_f64();
        let is_due = MOVED_INTERVAL <= elapsed && enough <= self.bytes as f64;
        if is_due {
            *self = Self::new(self.bytes_per_second_min);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace that began so long ago.
    fn since(seconds: u64) -> Pace {
        let since = Instant::now() - Duration::from_secs(seconds);
        Pace {
            since,
            ..Pace::new(1000)
        }
    }

    #[test]
    fn a_trickle_is_no_progress_and_a_slow_link_that_catches_up_is() {
        let mut trickle = since(60);
        assert!(!trickle.is_to_be_told(1));
        assert!(!trickle.is_to_be_told(50_000));
        // After an outage of a minute: a minute's worth at the least rate.
        assert!(trickle.is_to_be_told(10_100));
        assert!(!trickle.is_to_be_told(1_000_000), "told a moment ago");
        assert!(since(1).is_to_be_told(1001));
    }
}
