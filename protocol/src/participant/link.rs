//! The participant's one connection: dialing, backing off, giving up.

use std::time::{Duration, Instant};

use super::Outcome;

/// How far the connection has come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Link {
    /// None; the next attempt is due then.
    Down { retry_at: Instant },
    /// The owner is opening one.
    Dialing,
    /// Hello was sent; Welcome is expected.
    Greeting { since: Instant },
    /// The owner is checking the plan.
    Deciding,
    /// Ready was sent.
    Up,
    /// All was said; the server is expected to close.
    Ending { outcome: Outcome, until: Instant },
    /// Nothing follows.
    Over,
}

impl Link {
    /// The state in words, for errors.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Down { .. } => "disconnected",
            Self::Dialing => "connecting",
            Self::Greeting { .. } => "waiting for Welcome",
            Self::Deciding => "checking the plan",
            Self::Up => "taking part",
            Self::Ending { .. } => "ending",
            Self::Over => "over",
        }
    }
}

/// How to wait for a server that is away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// The pause before the second attempt; it doubles with every further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long a server may be away before the participant gives up.
    pub give_up_after: Duration,
}

impl Default for Patience {
    /// Half a second, doubling up to 30 s, for 10 minutes.
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            give_up_after: Duration::from_secs(600),
        }
    }
}

/// Attempts, and the pauses between them.
#[derive(Debug)]
pub(super) struct Redial {
    patience: Patience,
    attempts: u32,
    last_heard: Instant,
    random: u64,
}

impl Redial {
    /// Starts counting; `seed` spreads the attempts of participants that lost the server together.
    pub(super) fn new(patience: Patience, seed: u64, now: Instant) -> Self {
        Self {
            patience,
            attempts: 0,
            last_heard: now,
            random: seed,
        }
    }

    /// The server answered.
    pub(super) fn heard(&mut self, now: Instant) {
        self.attempts = 0;
        self.last_heard = now;
    }

    /// The connection was there until now.
    pub(super) fn lost(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// Attempts since the server was last heard.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Until when to keep trying.
    pub(super) fn give_up_at(&self) -> Instant {
        self.last_heard + self.patience.give_up_after
    }

    /// When to try again: after half to all of a pause that doubles with each attempt.
    pub(super) fn next_attempt(&mut self, now: Instant) -> Instant {
        let doubled = self
            .patience
            .first_pause
            .saturating_mul(1 << self.attempts.min(20));
        self.attempts = self.attempts.saturating_add(1);
        let pause = doubled.min(self.patience.longest_pause);
        now + pause / 2 + (pause / 2).mul_f64(self.next_unit())
    }

    /// SplitMix64 (Steele, Lea and Flood 2014), as a number in [0, 1).
    fn next_unit(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How long the server may take to answer Hello.
pub(super) const WELCOME_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for the server to close after the last word.
pub(super) const LINGER_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn pauses_double_up_to_the_longest_and_are_spread_by_the_seed() {
        let now = Instant::now();
        let patience = Patience::default();
        let mut redial = Redial::new(patience, 7, now);
        for attempt in 0..10_u32 {
            let full = patience
                .first_pause
                .saturating_mul(1 << attempt)
                .min(patience.longest_pause);
            let pause = redial.next_attempt(now) - now;
            assert!(
                full / 2 <= pause && pause <= full,
                "attempt {attempt}: {pause:?}"
            );
        }
        let mut other = Redial::new(patience, 8, now);
        let mut again = Redial::new(patience, 7, now);
        assert_ne!(other.next_attempt(now), again.next_attempt(now));
        redial.heard(now);
        assert!(redial.next_attempt(now) - now <= patience.first_pause);
    }
}
