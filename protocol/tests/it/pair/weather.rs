//! How bad the network and the sites are, and the numbers that all chance comes from.

use super::*;

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(super) fn between(&mut self, range: (u64, u64)) -> Duration {
        Duration::from_millis(range.0 + self.below(range.1 - range.0 + 1))
    }
}

/// How bad the network and the sites are. Times in milliseconds, chances per mille.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) latency_ms: (u64, u64),
    pub(crate) bulk_ms: (u64, u64),
    pub(crate) train_ms: (u64, u64),
    pub(crate) fold_ms: (u64, u64),
    /// Per control message: the connection breaks instead.
    pub(crate) cut: u64,
    /// Per bulk transfer: the connection breaks while it runs.
    pub(crate) cut_bulk: u64,
    /// Per bulk transfer to the server: it arrives twice.
    pub(crate) duplicate: u64,
    /// Per training: the process dies and starts again.
    pub(crate) kill: u64,
    /// Per training: the process hangs and never reports again.
    pub(crate) hang: u64,
    /// Per update: the server refuses it.
    pub(crate) refuse: u64,
    /// Per site: it declines the plan.
    pub(crate) decline: u64,
    /// Per dial: it fails.
    pub(crate) dial_fails: u64,
    /// Per action of the server: its process is killed before it, and starts again.
    pub(crate) crash: u64,
    /// Killed processes find their update on disk, and what they had of the server's transfers.
    pub(crate) spool: bool,
    /// From the end of a training until its update is on disk.
    pub(crate) disk_ms: (u64, u64),
    /// Per beginning of a transfer that a site keeps: its disk damages it.
    pub(crate) damage: u64,
    /// Per bulk transfer to the server: other bytes arrive than announced.
    pub(crate) corrupt: u64,
    /// Per entry to be written down: the server's disk is full, it stops and is started again.
    pub(crate) disk_full: u64,
    /// Per step: all clocks jump ahead, by up to an hour.
    pub(crate) clock_jump: u64,
}

impl Weather {
    /// Nothing goes wrong: 10 ms each way, 100 ms of bulk, a second of training.
    pub(crate) fn fair() -> Self {
        Self {
            latency_ms: (10, 10),
            bulk_ms: (100, 100),
            train_ms: (1000, 1000),
            fold_ms: (5, 5),
            cut: 0,
            cut_bulk: 0,
            duplicate: 0,
            kill: 0,
            hang: 0,
            refuse: 0,
            decline: 0,
            dial_fails: 0,
            crash: 0,
            spool: false,
            disk_ms: (0, 0),
            damage: 0,
            corrupt: 0,
            disk_full: 0,
            clock_jump: 0,
        }
    }
}
