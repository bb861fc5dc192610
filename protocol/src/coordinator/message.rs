//! Hands each message to what it is about, once it belongs to this run and its sender may say it.

use std::time::Instant;

use super::roster::Stage;
use super::{Coordinator, round};
use crate::ids::{ConnectionId, Digest, ParticipantName};
use crate::message::ToServer;
use crate::violation::Breach;

impl Coordinator {
    pub(super) fn take(
        &mut self,
        connection: ConnectionId,
        name: &ParticipantName,
        message: ToServer,
        now: Instant,
    ) -> Result<(), Breach> {
        match message {
            ToServer::Hello {
                version, software, ..
            } => self.take_hello(connection, version, software, now),
            ToServer::Ready {
                plan,
                holds,
                begun,
                recorded,
            } => {
                self.check_plan("Ready", plan)?;
                self.take_ready(connection, name, (holds, begun, recorded), now)
            }
            ToServer::Decline { plan, reason } => {
                self.check_plan("Decline", plan)?;
                self.take_decline(connection, name, reason)
            }
            ToServer::Leave { reason } => {
                self.take_leave(connection, name, reason);
                Ok(())
            }
            ToServer::Progress { round, step, steps } => {
                self.expect_ready(connection, "Progress")?;
                self.take_progress(connection, name, (round, step, steps), now)
            }
            ToServer::Offer {
                transfer,
                weight,
                metrics,
            } => {
                self.expect_ready(connection, "Offer")?;
                let offered = round::Offered {
                    transfer,
                    weight,
                    metrics,
                };
                self.take_offer(connection, name, offered, now)
            }
            ToServer::Received { transfer } => {
                self.expect_ready(connection, "Received")?;
                self.take_received(connection, transfer, now);
                Ok(())
            }
            ToServer::Trained { round, metrics } => {
                self.expect_ready(connection, "Trained")?;
                self.take_trained(connection, name, (round, metrics), now)
            }
            ToServer::Secure { attempt, message } => {
                self.expect_ready(connection, message.name())?;
                self.take_secure(name, (attempt, message))
            }
            ToServer::Resend { transfer, reason } => {
                self.expect_ready(connection, "Resend")?;
                self.take_resend(connection, name, (transfer, reason), now)
            }
        }
    }

    fn check_plan(&self, message: &'static str, found: Digest) -> Result<(), Breach> {
        if found == self.plan.digest() {
            Ok(())
        } else {
            Err(Breach::WrongPlan { message })
        }
    }

    fn expect_ready(
        &mut self,
        connection: ConnectionId,
        message: &'static str,
    ) -> Result<(), Breach> {
        match self.roster.link_mut(connection).map(|link| &link.stage) {
            Some(Stage::Ready { .. }) | None => Ok(()),
            Some(stage) => Err(Breach::Unexpected {
                message,
                state: stage.label(),
            }),
        }
    }
}
