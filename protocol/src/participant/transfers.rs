//! Bulk bytes from the server: which to keep, and what the plan says they must be.

use std::time::Instant;

use super::{Action, AnchorCopy, Disposition, Link, Participant, Work};
use crate::message::{Content, ResendReason, ToServer, TransferHeader, TransferKind};
use crate::plan::{ANCHOR_BYTES_MAX, CheckedPlan, Download};
use crate::violation::Breach;

/// A delta where there are none.
const NO_DELTAS: Breach = Breach::Unexpected {
    message: "a delta",
    state: "the plan has adapters sent whole",
};

impl Participant {
    /// A content is here whole and with the header's digest: the last bytes of it came on the present connection, behind
    /// those that the owner had.
    ///
    /// They may arrive before the message that announces them: the streams of a connection are not ordered among
    /// each other.
    pub fn handle_transfer_received(
        &mut self,
        header: &TransferHeader,
        now: Instant,
    ) -> Disposition {
        if matches!(
            self.link,
            Link::Down { .. } | Link::Dialing | Link::Ending { .. } | Link::Over
        ) {
            return Disposition::Drop;
        }
        self.note_round(header.round);
        match self.take_transfer(&header.at(0), now) {
            Ok(disposition) => disposition,
            Err(breach) => {
                self.accuse(breach);
                Disposition::Drop
            }
        }
    }

    /// The bytes that the owner had and those that followed are not the content of the header. The owner has dropped them.
    pub fn handle_transfer_damaged(&mut self, header: &TransferHeader) {
        if self.link != Link::Up {
            return;
        }
        if 0 < header.offset {
            // The beginning may be what was damaged, and that one was in our keeping.
            let (transfer, reason) = (header.id, ResendReason::Damaged);
            self.actions
                .push_back(Action::Send(ToServer::Resend { transfer, reason }));
        } else {
            self.accuse(Breach::BadTransfer {
                what: "SHA-256",
                found: "another".to_owned(),
                expected: header.sha256.to_string(),
            });
        }
    }

    /// The adapter of a delta is rebuilt and has this content: what the delta says it comes to, under the digest of which the
    /// owner has the bytes.
    ///
    /// Returns the header under which the owner keeps them, as if they had come whole; `None` if they are to be dropped.
    pub fn handle_delta_rebuilt(
        &mut self,
        delta: &TransferHeader,
        adapter: Content,
        now: Instant,
    ) -> Option<TransferHeader> {
        let header = self.planned_delta(delta)?.rebuilt(adapter)?;
        match self.handle_transfer_received(&header, now) {
            Disposition::Keep => Some(header),
            Disposition::Drop => None,
        }
    }

    /// No adapter can be rebuilt from a delta, which came with its header's digest or was not taken in, because it is no shorter than
    /// the adapter ([`CheckedPlan::judge`]): the whole one is asked for. A server that
    /// answers that by another such delta would go on for ever.
    pub fn handle_delta_unusable(&mut self, delta: &TransferHeader, reason: ResendReason) {
        let Some(delta) = self.planned_delta(delta) else {
            return;
        };
        self.note_round(delta.round);
        let of = (delta.kind, delta.round);
        if self.useless_delta.replace(of) == Some(of) {
            return self.accuse(Breach::BadTransfer {
                what: "form",
                found: format!("another delta of no use ({})", reason.label()),
                expected: "the whole adapter, which was asked for".to_owned(),
            });
        }
        let transfer = delta.id;
        self.actions
            .push_back(Action::Send(ToServer::Resend { transfer, reason }));
    }

    /// The delta, if the connection is up and the plan has deltas.
    fn planned_delta(&mut self, delta: &TransferHeader) -> Option<TransferHeader> {
        if self.link != Link::Up {
            return None;
        }
        if self.has_deltas() {
            return Some(*delta);
        }
        self.accuse(NO_DELTAS);
        None
    }

    fn has_deltas(&self) -> bool {
        let download = self.plan.as_ref().map(|plan| plan.download);
        download == Some(Download::Delta)
    }

    fn take_transfer(
        &mut self,
        header: &TransferHeader,
        now: Instant,
    ) -> Result<Disposition, Breach> {
        if self.link != Link::Up {
            return Err(Breach::Unexpected {
                message: "a transfer",
                state: self.link.label(),
            });
        }
        match header.kind {
            TransferKind::Anchor => self.take_anchor(header),
            TransferKind::GlobalAdapter | TransferKind::FinalAdapter => {
                self.take_adapter(header, now)
            }
            TransferKind::GlobalDelta | TransferKind::FinalDelta if !self.has_deltas() => {
                Err(NO_DELTAS)
            }
            TransferKind::GlobalDelta | TransferKind::FinalDelta => Err(Breach::Unexpected {
                message: "a delta",
                state: "nothing was rebuilt from it",
            }),
            TransferKind::Update => Err(Breach::Unexpected {
                message: "an update",
                state: "no participant receives updates",
            }),
        }
    }

    fn take_anchor(&mut self, header: &TransferHeader) -> Result<Disposition, Breach> {
        let plan = self.plan.as_ref();
        let Some(ewc) = plan.and_then(CheckedPlan::anchor_at_participants) else {
            return Err(Breach::Unexpected {
                message: "an anchor",
                state: "the plan needs none",
            });
        };
        if header.sha256 != ewc.anchor {
            let (found, expected) = (header.sha256.to_string(), ewc.anchor.to_string());
            return Err(Breach::BadTransfer {
                what: "digest of the anchor",
                found,
                expected,
            });
        }
        if ANCHOR_BYTES_MAX < header.bytes {
            return Err(Breach::BadTransfer {
                what: "length in bytes of the anchor",
                found: header.bytes.to_string(),
                expected: format!("at most {ANCHOR_BYTES_MAX}"),
            });
        }
        self.acknowledge(header);
        if self.anchor == AnchorCopy::Held {
            return Ok(Disposition::Drop);
        }
        self.anchor = AnchorCopy::Held;
        self.begin_training();
        Ok(Disposition::Keep)
    }

    fn take_adapter(
        &mut self,
        header: &TransferHeader,
        now: Instant,
    ) -> Result<Disposition, Breach> {
        self.check_header(header, header.kind)?;
        let is_final = header.kind == TransferKind::FinalAdapter;
        if is_final {
            self.check_round("the final adapter", header.round, self.last_round())?;
        } else {
            self.check_round("a global adapter", header.round, crate::ids::Round::FIRST)?;
            let in_use = matches!(
                &self.work,
                Work::Training { .. } | Work::Delivering { .. } | Work::Summing { .. }
            ) && self
                .work
                .task()
                .is_some_and(|(round, _)| header.round <= round);
            // The final one has overtaken it.
            let is_over = self
                .arrived
                .is_some_and(|arrived| arrived.kind == TransferKind::FinalAdapter);
            // Sent before the server knew that it is not needed any more.
            if is_over
                || in_use
                || header.round <= self.settled
                || matches!(self.work, Work::Parting { .. })
            {
                return Ok(Disposition::Drop);
            }
            if let Work::Receiving { global } = &self.work
                && global.round == header.round
                && global.id != header.id
            {
                let (found, expected) = (header.sha256.to_string(), global.sha256.to_string());
                return Err(Breach::BadTransfer {
                    what: "digest of the global adapter",
                    found,
                    expected,
                });
            }
        }
        if self.arrived.is_some_and(|arrived| arrived.id == header.id) {
            return Ok(Disposition::Drop);
        }
        if let Some(older) = self.arrived.replace(*header) {
            self.actions
                .push_back(Action::Forget { transfer: older.id });
        }
        if is_final {
            self.complete(now)?;
        } else {
            self.acknowledge(header);
            self.begin_training();
        }
        Ok(Disposition::Keep)
    }

    fn acknowledge(&mut self, header: &TransferHeader) {
        self.actions.push_back(Action::Send(ToServer::Received {
            transfer: header.id,
        }));
    }

    /// An adapter from the server is of the plan, of its size, and named by what it carries.
    pub(super) fn check_header(
        &self,
        header: &TransferHeader,
        kind: TransferKind,
    ) -> Result<(), Breach> {
        let Some(plan) = &self.plan else {
            return Err(Breach::Unexpected {
                message: "a transfer",
                state: self.link.label(),
            });
        };
        if header.plan != plan.digest() {
            return Err(Breach::WrongPlan {
                message: "a transfer",
            });
        }
        let length = plan.adapter_bytes_of(kind).unwrap_or_default();
        if header.bytes != length {
            let (found, expected) = (header.bytes.to_string(), length.to_string());
            return Err(Breach::BadTransfer {
                what: "length in bytes",
                found,
                expected,
            });
        }
        let expected =
            TransferHeader::from_server(kind, header.round, header.plan, header.content());
        if *header == expected {
            Ok(())
        } else {
            let (found, expected) = (header.id.to_string(), expected.id.to_string());
            Err(Breach::BadTransfer {
                what: "id, kind or offset",
                found,
                expected,
            })
        }
    }
}
