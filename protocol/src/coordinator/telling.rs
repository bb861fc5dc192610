//! Telling participants what is on record: to each the headings, and its own lines.

use super::Coordinator;
use super::roster::Stage;
use crate::ids::ParticipantName;
use crate::message::ToClient;

impl Coordinator {
    /// Sends the records that a participant has not heard of, before anything that builds on them.
    pub(super) fn tell_records(&mut self, name: &ParticipantName) {
        let Some(connection) = self.roster.ready(name).map(|link| link.connection) else {
            return;
        };
        let Some(link) = self.roster.link_mut(connection) else {
            return;
        };
        let Stage::Ready { recorded, .. } = &mut link.stage else {
            return;
        };
        let done = self.transcript.last_round();
        // One that claims to have more than there are is told nothing, and will say itself what is wrong.
        let known = std::mem::replace(recorded, done).min(done);
        for excerpt in self.transcript.excerpts_after(known, name) {
            self.send(connection, ToClient::Recorded(Box::new(excerpt)));
        }
    }
}
