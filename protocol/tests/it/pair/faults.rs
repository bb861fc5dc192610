//! What goes wrong, by hand or by the weather.

use super::*;

impl Pair {
    /// All clocks jump ahead.
    pub(crate) fn jump(&mut self, time: Duration) {
        self.now += time;
    }

    /// Breaks a site's connection; the server notices a second later.
    pub(crate) fn cut(&mut self, site: usize) {
        if let Some(connection) = self.sites[site].connection {
            self.break_line(connection);
        }
    }

    /// Kills a site's process for good.
    pub(crate) fn kill(&mut self, site: usize) {
        self.cut(site);
        let site = &mut self.sites[site];
        site.stop_writing(self.now);
        site.generation += 1;
        site.connection = None;
        site.outcome = Some(participant::Outcome::ServerAway);
        site.machine.leave(Text::new("killed"), self.now);
        while site.machine.poll_action().is_some() {}
        site.machine
            .handle_timeout(self.now + Duration::from_secs(3600));
        while site.machine.poll_action().is_some() {}
    }

    /// A site leaves the run, and says so.
    pub(crate) fn leave(&mut self, site: usize) {
        let site = &mut self.sites[site];
        site.machine.leave(Text::new("leaves"), self.now);
        self.act();
    }

    /// A site cannot keep what arrives, nor the update that it is writing: its process ends, and is started again.
    pub(crate) fn site_disk_full(&mut self, site: usize) {
        self.cut(site);
        self.sites[site].begun.clear();
        self.restart(site);
    }

    /// Starts a killed site's process again.
    pub(crate) fn restart(&mut self, site: usize) {
        let name = self.sites[site].name.clone();
        self.sites[site].stop_writing(self.now);
        let spooled = self.sites[site]
            .spool
            .clone()
            .filter(|_| self.weather.spool);
        let machine = self.machine(&name, spooled);
        let has_disk = self.weather.spool;
        let site = &mut self.sites[site];
        if !has_disk {
            site.begun.clear();
        }
        site.generation += 1;
        site.machine = machine;
        site.kept.clear();
        site.heard.clear();
        site.outcome = None;
        site.global = None;
    }

    /// Kills the server's process and starts it again from what was written down. Actions that were not performed are lost.
    pub(crate) fn crash(&mut self) {
        let lines: Vec<_> = self.lines.keys().copied().collect();
        for connection in lines {
            self.break_line(connection);
            self.lines.get_mut(&connection).unwrap().server_open = false;
        }
        let server = &mut self.server;
        server.crashes += 1;
        server.with_owner.clear();
        self.is_aggregating = false;
        server
            .summaries
            .truncate(server.history.rounds_done as usize);
        let accepted = server
            .history
            .open
            .iter()
            .flat_map(|open| &open.accepted)
            .map(|(name, one)| (name.clone(), (one.transfer.sha256, one.weight)));
        let accepted = accepted.collect();
        server.folded.insert(server.history.round(), accepted);
        let history = self.server.history.clone();
        self.coordinator = Coordinator::resume(self.setup(), history, self.now).unwrap();
    }

    /// The server cannot write an entry down: nothing that follows from it is said; it stops, and is started again.
    pub(crate) fn disk_full(&mut self) {
        if self.server.outcome.is_some() {
            return;
        }
        while self.coordinator.poll_action().is_some() {}
        self.coordinator.stop();
        while let Some(action) = self.coordinator.poll_action() {
            if matches!(action, coordinator::Action::Close { .. }) {
                self.act_for_server(action);
            }
        }
        self.crash();
    }

    /// What the server starts from, given what was written down.
    pub(crate) fn setup(&self) -> coordinator::Setup {
        let release = release(self.server.history.rounds_done);
        let transcript = self.server.transcript.clone();
        coordinator::Setup {
            transcript,
            release,
            ..setup(&self.plan, release.adapter, None)
        }
    }

    /// What the server wrote down, as a chain.
    pub(crate) fn chain(&self) -> Chain {
        let mut chain = Chain::new(self.plan.digest());
        for sealed in &self.server.transcript {
            sealed.check(&Eye).unwrap();
            chain.extend(&sealed.record.heading).unwrap();
        }
        chain
    }

    /// Puts a round on record.
    pub(super) fn put_on_record(&mut self, round: Round, adapter: Content) -> SealedRecord {
        let before = global(round.0 - 1);
        let summary = &self.server.summaries[round.0 as usize - 1];
        let record = record(&self.chain(), summary, before, adapter);
        self.server.transcript.push(record.clone());
        record
    }

    /// Refuses an update that is with the owner.
    pub(crate) fn refuse(&mut self, site: &str) {
        let site = name(site);
        assert!(self.server.with_owner.remove(&site).is_some());
        self.coordinator
            .handle_update_refused(&site, RefusalReason::OverNorm, self.now)
            .unwrap();
    }

    pub(super) fn break_line(&mut self, connection: ConnectionId) {
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        line.cut = true;
        let (now, site_open, server_open) = (self.now, line.site_open, line.server_open);
        if site_open {
            self.at(now, Event::SiteLost(connection, None));
        }
        if server_open {
            let notices = now + self.rng.between((1000, 1000));
            self.at(notices, Event::ServerLost(connection));
        }
    }
}
