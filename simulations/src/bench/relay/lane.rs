//! One direction of a link: what enters is lost, or leaves in order after its turn and its delay.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Weather;

/// The entry of a lane.
#[derive(Debug)]
pub(super) struct Lane {
    weather: Weather,
    bytes: AtomicU64,
    is_dark: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: u64,
    /// When the last datagram has passed the narrow place.
    free_at: Instant,
    queue: Option<mpsc::Sender<(Instant, Vec<u8>)>>,
}

/// The end of a lane.
#[derive(Debug)]
pub(super) struct Sender(Receiver<(Instant, Vec<u8>)>);

impl Lane {
    pub(super) fn new(weather: Weather, seed: u64) -> (Self, Sender) {
        let (queue, waiting) = mpsc::channel();
        let state = State {
            random: seed,
            free_at: Instant::now(),
            queue: Some(queue),
        };
        let lane = Self {
            weather,
            bytes: AtomicU64::new(0),
            is_dark: AtomicBool::new(false),
            state: Mutex::new(state),
        };
        (lane, Sender(waiting))
    }

    /// Takes a datagram in, or loses it.
    pub(super) fn enter(&self, datagram: &[u8]) {
        let length = datagram.len() as u64;
        self.bytes.fetch_add(length, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_lost = state.next_unit() < self.weather.loss;
        let now = Instant::now();
        let begins = state.free_at.max(now);
        let is_full = self.weather.queue < begins - now;
        if is_lost || is_full || self.is_dark.load(Ordering::Relaxed) {
            return;
        }
        let takes = self
            .weather
            .bytes_per_second
            .map_or(Duration::ZERO, |rate| {
                Duration::from_secs_f64(length as f64 / rate as f64)
            });
        state.free_at = begins + takes;
        let due = state.free_at + self.weather.delay;
        if let Some(queue) = &state.queue {
            // Without its end the link is being closed.
            let _ = queue.send((due, datagram.to_vec()));
        }
    }

    pub(super) fn set_dark(&self, is_dark: bool) {
        self.is_dark.store(is_dark, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes nothing in any more, which ends the other end.
    pub(super) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.queue = None;
    }
}

impl Sender {
    /// Hands each datagram over when its time has come.
    pub(super) fn run(self, mut send: impl FnMut(&[u8])) {
        while let Ok((due, datagram)) = self.0.recv() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            send(&datagram);
        }
    }
}

impl State {
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
