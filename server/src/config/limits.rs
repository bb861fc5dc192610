//! The section `[limits]` as typed, and what it says to plan, coordinator and transport.

use protocol::coordinator::Allowance;
use protocol::plan::LimitsPlan;
use protocol::quic::Limits;
use serde::{Deserialize, Serialize};

use super::error::ValueError;
use super::size::ByteSize;

/// Fewer messages a minute than these would end honest participants' connections.
const MESSAGES_MIN: u32 = 16;
/// With less a packet's worth is under way at a time.
const UPLOAD_WINDOW_MIN: u32 = 64 * 1024;
/// 10 Gbit/s at 800 ms.
const UPLOAD_WINDOW_MAX: u32 = 1 << 30;

/// `[limits]`: what the server accepts at most.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    /// Largest Euclidean norm of an update.
    pub update_norm_max: f64,
    /// Largest weight (training examples used) that an update may claim. Under `[privacy]` every update weighs 1.
    pub weight_max: u64,
    /// Most participants in the run.
    pub participants_max: u32,
    /// Largest adapter that the server will hold.
    pub adapter_max: ByteSize,
    /// Updates received at a time, over all participants; the others wait. It bounds the server's memory: of updates smaller than
    /// `upload_window` as many more are received as fit the same memory, in which those of up to a mebibyte wait to be judged too.
    pub uploads_at_once: u32,
    /// Bytes of each of them in flight: bandwidth times delay. With the number it bounds the server's memory.
    pub upload_window: ByteSize,
    /// Connections a minute that one participant may open.
    pub connections_per_minute: u32,
    /// Messages a minute that one participant may send without moving the round on.
    pub messages_per_minute: u32,
    /// Bytes that one participant may send in a round, as a multiple of one update.
    pub uploads_per_round: u32,
    /// Bytes of adapters and the anchor that one participant may have sent to it in a round, as a multiple of one of each.
    pub downloads_per_round: u32,
    /// Times in a round that one participant may stall, or break off a delivery on a connection that lives.
    pub interruptions_per_round: u32,
    /// Slowest delivery that still counts as progress, in bytes a second.
    pub upload_per_second_min: ByteSize,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            update_norm_max: 100.0,
            weight_max: 100_000,
            participants_max: 64,
            adapter_max: ByteSize::mebibytes(1024),
            uploads_at_once: 8,
            upload_window: ByteSize::mebibytes(4),
            connections_per_minute: 30,
            messages_per_minute: 240,
            uploads_per_round: 4,
            downloads_per_round: 4,
            interruptions_per_round: 3,
            upload_per_second_min: ByteSize::kibibytes(4),
        }
    }
}

impl RawLimits {
    /// What one participant may ask of us. A participant that may do nothing at all could never take part.
    pub(super) fn allowance(&self) -> Result<Allowance, ValueError> {
        let counts = [
            ("limits.uploads_at_once", self.uploads_at_once),
            ("limits.connections_per_minute", self.connections_per_minute),
            ("limits.uploads_per_round", self.uploads_per_round),
            ("limits.downloads_per_round", self.downloads_per_round),
        ];
        if let Some((key, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Err(ValueError::new(key, "is 0; it must be at least 1"));
        }
        // Hello, Ready, Received, Offer, and some to spare.
        if self.messages_per_minute < MESSAGES_MIN {
            let what = format!(
                "is {}; a round alone takes some, so it must be at least {MESSAGES_MIN}",
                self.messages_per_minute
            );
            return Err(ValueError::new("limits.messages_per_minute", what));
        }
        Ok(Allowance {
            connections_per_minute: self.connections_per_minute,
            messages_per_minute: self.messages_per_minute,
            uploads_per_round: self.uploads_per_round,
            downloads_per_round: self.downloads_per_round,
            interruptions_per_round: self.interruptions_per_round,
        })
    }

    /// The transport's bounds.
    pub(super) fn transport(&self) -> Result<Limits, ValueError> {
        let found = self.upload_window.bytes();
        let (least, most) = (UPLOAD_WINDOW_MIN, UPLOAD_WINDOW_MAX);
        let window = u32::try_from(found)
            .ok()
            .filter(|window| (least..=most).contains(window));
        let Some(stream_window_bytes) = window else {
            let what = format!("is {found} bytes; it must be {least} to {most}");
            return Err(ValueError::new("limits.upload_window", what));
        };
        Ok(Limits {
            stream_window_bytes,
            ..Limits::default()
        })
    }

    /// The bounds that are in the plan.
    pub(super) fn plan(&self) -> LimitsPlan {
        LimitsPlan {
            update_norm_max: self.update_norm_max,
            weight_max: self.weight_max,
            participants_max: self.participants_max,
        }
    }
}
