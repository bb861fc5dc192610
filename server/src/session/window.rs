//! How far ahead of our reading a participant may send: an update's worth while it has its turn, next to nothing otherwise.
//!
//! What a peer sends ahead lies in our memory. Without this a participant that waits for its turn would fill its whole window
//! meanwhile, and the server's memory would grow with participants. Only numbers here: the session applies them.

/// What a peer without a turn may send ahead: some messages, and the beginning of an update.
pub(crate) const NARROW_BYTES: u32 = 128 * 1024;
/// More than is read at a time: 64 packets of 6.4 kB.
const HANDFUL_BYTES: u64 = 512 * 1024;

/// The share of the room for updates on their way that one of which this much is to come takes up, if no window is wider than `most`.
///
/// So of small updates more are received at a time, in the same memory. It is no less than the update has, up to `most`: one that is
/// held in memory (`spool.rs`) keeps it until it is judged.
///
/// # Units
/// Bytes.
pub(super) fn share(remaining: u64, most: u32) -> u32 {
    let wanted = u32::try_from(remaining).unwrap_or(u32::MAX);
    wanted.max(NARROW_BYTES).min(most)
}

/// One connection's window while updates come over it one after the other.
#[derive(Debug)]
pub(super) struct Window {
    /// What an update may take up.
    most: u32,
    /// By how much it is wider than [`NARROW_BYTES`].
    widened: u32,
}

impl Window {
    /// A narrow window that widens by at most this much.
    pub(super) fn new(most: u32) -> Self {
        Self { most, widened: 0 }
    }

    /// Makes room for an update of which this much is still to come; gives the new window if it is another.
    ///
    /// One that broke off while it had room leaves the room to the next: what was allowed cannot be taken back.
    pub(super) fn widen(&mut self, remaining: u64) -> Option<u32> {
        let wanted = u32::try_from(remaining).unwrap_or(u32::MAX).min(self.most);
        if wanted <= self.widened {
            return None;
        }
        self.widened = wanted;
        Some(NARROW_BYTES + wanted)
    }

    /// Narrows the window when so little is still to come that all of it may be under way; gives the new window if it is another.
    ///
    /// Narrowing takes nothing back: credit for what is read from then on is withheld until the difference is made up for. So it
    /// comes while at least the difference is still to be read.
    pub(super) fn narrow(&mut self, remaining: u64) -> Option<u32> {
        if self.widened == 0 || u64::from(self.widened) + HANDFUL_BYTES < remaining {
            return None;
        }
        self.widened = 0;
        Some(NARROW_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 4 << 20;

    /// What the peer may still send, as QUIC counts it: quinn withholds credit for as much as a window was narrowed by.
    struct Credit {
        window: u32,
        outstanding: u64,
        debt: u64,
    }

    impl Credit {
        fn set(&mut self, window: Option<u32>) {
            let Some(window) = window else { return };
            match window.checked_sub(self.window) {
                Some(more) => self.outstanding += u64::from(more),
                None => self.debt += u64::from(self.window - window),
            }
            self.window = window;
        }

        /// The peer sent this much, and it was read.
        fn read(&mut self, bytes: u64) {
            let withheld = bytes.min(self.debt);
            self.debt -= withheld;
            self.outstanding -= withheld;
        }
    }

    fn receive(window: &mut Window, credit: &mut Credit, total: u64, cut_at: Option<u64>) {
        credit.set(window.widen(total));
        let mut received = 0;
        while received < total && cut_at.is_none_or(|cut_at| received < cut_at) {
            credit.set(window.narrow(total - received));
            let handful = (64 * 6400).min(total - received);
            credit.read(handful);
            received += handful;
        }
    }

    fn narrow() -> Credit {
        Credit {
            window: NARROW_BYTES,
            outstanding: NARROW_BYTES.into(),
            debt: 0,
        }
    }

    #[test]
    fn a_small_update_takes_up_little_of_the_room_and_none_more_than_a_whole_window() {
        assert_eq!(share(0, MOST), NARROW_BYTES);
        assert_eq!(share(1 << 20, MOST), 1 << 20);
        assert_eq!(share(u64::MAX, MOST), MOST);
        assert_eq!(share(1 << 20, 64 * 1024), 64 * 1024);
    }

    #[test]
    fn after_any_whole_update_the_peer_may_send_as_little_ahead_as_before() {
        let (mut window, mut credit) = (Window::new(MOST), narrow());
        for total in [1, 100_000, 4 << 20, (4 << 20) + 1, 5 << 20, 42 << 20, 7] {
            receive(&mut window, &mut credit, total, None);
            assert_eq!(
                (credit.outstanding, credit.debt),
                (NARROW_BYTES.into(), 0),
                "{total}"
            );
        }
    }

    #[test]
    fn an_update_that_breaks_off_leaves_its_room_to_the_next_and_no_more() {
        let (mut window, mut credit) = (Window::new(MOST), narrow());
        for _ in 0..100 {
            receive(&mut window, &mut credit, 42 << 20, Some(1 << 20));
            assert_eq!(credit.outstanding, u64::from(NARROW_BYTES + MOST));
        }
        receive(&mut window, &mut credit, 42 << 20, None);
        assert_eq!((credit.outstanding, credit.debt), (NARROW_BYTES.into(), 0));
    }
}
