//! Members that were lost while they owed their masked vectors, and may still come back with them: how long they are waited for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::secagg::MemberId;

/// Who is away, and since when.
#[derive(Debug, Default)]
pub(super) struct Away {
    members: BTreeSet<MemberId>,
    /// When the last of them was lost; none if nobody is away.
    lost_at: Option<Instant>,
    /// One of them was lost since the last look at the clock.
    is_newly_lost: bool,
}

impl Away {
    /// A member was lost and may return.
    pub(super) fn insert(&mut self, member: MemberId) {
        self.members.insert(member);
        self.is_newly_lost = true;
    }

    /// This member is back, has delivered, or will never do.
    pub(super) fn remove(&mut self, member: MemberId) {
        self.members.remove(&member);
        if self.members.is_empty() {
            self.clear();
        }
    }

    /// Nobody is waited for any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What time it is for those that were lost since the last look.
    pub(super) fn note(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_newly_lost) {
            self.lost_at = Some(now);
        }
    }

    /// Until when somebody is waited for; none if nobody is away.
    pub(super) fn until(&self, limit: Duration) -> Option<Instant> {
        self.lost_at.map(|lost_at| lost_at + limit)
    }

    /// Whether nobody is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.lost_at.is_none()
    }
}
