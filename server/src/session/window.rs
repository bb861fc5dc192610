//! How far ahead of our reading a participant may send: an update's worth while it has its turn, next to nothing otherwise.
//!
//! What a peer sends ahead lies in our memory. Without this a participant that waits for its turn would fill its whole window
//! meanwhile, and the server's memory would grow with participants.

use protocol::quic::Connection;

/// What a peer without a turn may send ahead: some messages, and the beginning of an update.
pub(crate) const NARROW_BYTES: u32 = 128 * 1024;
/// At most this much is read at a time: 64 packets of 4 kB.
const HANDFUL_BYTES: u64 = 256 * 1024;

/// One connection's window while updates come over it one after the other.
#[derive(Debug)]
pub(super) struct Window {
    connection: Connection,
    /// What an update may take up.
    most: u32,
    /// By how much it is wider than [`NARROW_BYTES`].
    widened: u32,
}

impl Window {
    pub(super) fn new(connection: Connection, most: u32) -> Self {
        Self {
            connection,
            most,
            widened: 0,
        }
    }

    /// Makes room for an update of which this much is still to come.
    ///
    /// One that broke off while it had room leaves the room to the next: what was allowed cannot be taken back.
    pub(super) fn widen(&mut self, remaining: u64) {
        let wanted = u32::try_from(remaining).unwrap_or(u32::MAX).min(self.most);
        if self.widened < wanted {
            self.widened = wanted;
            self.connection.allow_ahead(NARROW_BYTES + wanted);
        }
    }

    /// Narrows the window when this little is still to come that all of it may be under way: reading it takes the room back.
    pub(super) fn note(&mut self, remaining: u64) {
        if 0 < self.widened && remaining <= u64::from(self.widened) + HANDFUL_BYTES {
            self.widened = 0;
            self.connection.allow_ahead(NARROW_BYTES);
        }
    }
}
