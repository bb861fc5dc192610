//! What a server has asked for on the present connection: it may repeat itself only as far as an honest one has reason to.

use crate::ids::Round;
use crate::violation::Breach;

/// Deliveries of one offer on one connection: the first, three that were broken off (the server's own
/// [`interruptions_per_round`](crate::coordinator::Allowance) unless its operator says otherwise), and each of these once more from
/// its first byte, because the beginning that the server kept was damaged. An honest participant breaks none off but those that it
/// takes back, so it is asked for one, and for a second if a beginning from before was damaged. Without a bound a server could have a
/// site write and send without end.
const DELIVERIES_MAX: u32 = 8;

/// What was asked for on the present connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Requests {
    /// The last round; 0 before the first.
    round: Round,
    /// Deliveries of what was offered last.
    deliveries: u32,
}

impl Requests {
    /// A round is asked for, which an honest server does once: rounds only go up, and what it said on this connection was heard.
    pub(super) fn train(&mut self, round: Round) -> Result<(), Breach> {
        if round <= self.round {
            return Err(Breach::Repeated {
                message: "Train",
                of: "round",
                limit: 1,
            });
        }
        self.round = round;
        Ok(())
    }

    /// An update is offered: it may be asked for.
    pub(super) fn offered(&mut self) {
        self.deliveries = 0;
    }

    /// What was offered last is asked for.
    pub(super) fn deliver(&mut self) -> Result<(), Breach> {
        if self.deliveries == DELIVERIES_MAX {
            return Err(Breach::Repeated {
                message: "Deliver",
                of: "offer",
                limit: DELIVERIES_MAX,
            });
        }
        self.deliveries += 1;
        Ok(())
    }
}
