//! What is on its way, and what happens when it arrives.

use super::*;

impl Pair {
    pub(super) fn at(&mut self, when: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), event);
    }

    pub(super) fn send_to_server(&mut self, connection: ConnectionId, event: Event) {
        let latency = self.rng.between(self.weather.latency_ms);
        let now = self.now;
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        line.to_server_until = line.to_server_until.max(now + latency);
        let when = line.to_server_until;
        self.at(when, event);
    }

    pub(super) fn send_to_site(&mut self, connection: ConnectionId, event: Event) {
        let latency = self.rng.between(self.weather.latency_ms);
        let now = self.now;
        let Some(line) = self.lines.get_mut(&connection) else {
            return;
        };
        line.to_site_until = line.to_site_until.max(now + latency);
        let when = line.to_site_until;
        self.at(when, event);
    }

    pub(super) fn bulk_time(&mut self) -> Duration {
        self.rng.between(self.weather.latency_ms) + self.rng.between(self.weather.bulk_ms)
    }

    /// Speaks for a site: the message goes to the server whatever its machine thinks.
    pub(crate) fn say(&mut self, site: usize, message: ToServer) {
        let connection = self.sites[site].connection.unwrap();
        self.send_to_server(connection, Event::ServerGets(connection, message));
    }

    /// Makes a line that a test connects by itself.
    pub(crate) fn lend_line(&mut self, connection: ConnectionId, site: &str) {
        let site = self.site(site);
        self.lines.insert(connection, Line::new(site, self.now));
        self.sites[site].connection = Some(connection);
    }

    /// Delivers bulk bytes for a site, whatever its machine thinks.
    pub(crate) fn pour(&mut self, site: usize, header: TransferHeader) {
        let connection = self.sites[site].connection.unwrap();
        self.send_to_server(connection, Event::ServerGetsTransfer(connection, header));
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::ServerGets(connection, message) => {
                if self.lines[&connection].reaches_server() {
                    self.coordinator
                        .handle_message(connection, message, self.now);
                }
            }
            Event::ServerGetsTransfer(connection, header) => {
                self.server_gets_transfer(connection, header)
            }
            Event::ServerGetsOtherBytes(connection, header) => {
                self.server_gets_other_bytes(connection, &header)
            }
            Event::ServerConnected(connection, site) => {
                let name = self.sites[site].name.clone();
                self.coordinator
                    .handle_connected(connection, name, self.now);
            }
            Event::ServerLost(connection) => {
                if let Some(line) = self.lines.get_mut(&connection)
                    && std::mem::take(&mut line.server_open)
                {
                    self.tell_unsent(connection);
                    self.coordinator.handle_disconnected(connection, self.now);
                }
            }
            Event::BulkCut(connection, kept) => self.bulk_cut(connection, kept),
            Event::Folded(process, _) | Event::Aggregated(process, _)
                if process != self.server.crashes => {}
            // The owner forms the adapter of a closed round before it folds for the next.
            Event::Folded(process, name) if self.is_aggregating => {
                let when = self.now + Duration::from_millis(5);
                self.at(when, Event::Folded(process, name));
            }
            Event::Folded(_, name) => self.folded(name),
            Event::Aggregated(_, round) => {
                self.is_aggregating = false;
                self.server.history.round_done();
                let release = release(round.0);
                let record = self.put_on_record(round, release.adapter);
                self.coordinator
                    .round_aggregated(release, record, self.now)
                    .unwrap();
            }
            Event::Restart(site) => self.restart(site),
            other => self.happen_at_site(other),
        }
    }

    pub(super) fn happen_at_site(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::SiteConnected(connection) => {
                if let Some(site) = self.site_of(connection) {
                    let begun = site.begun.iter();
                    let begun = begun.map(|(&sha256, begun)| Beginning {
                        sha256,
                        bytes: begun.bytes,
                    });
                    let begun: Vec<_> = begun.collect();
                    site.listed = begun.iter().map(|one| (one.sha256, one.bytes)).collect();
                    site.machine.transfers_kept(begun);
                    site.machine.handle_connected(now);
                }
            }
            Event::SiteGets(connection, message) => {
                if self.lines[&connection].reaches_site()
                    && let Some(site) = self.site_of(connection)
                {
                    site.machine.handle_message(message, now);
                }
            }
            Event::SiteGetsTransfer(connection, header) => {
                self.site_gets_transfer(connection, &header)
            }
            Event::SiteLost(connection, code) => {
                let site = self.site_of(connection);
                if let Some(site) = site {
                    site.connection = None;
                    site.machine.handle_disconnected(code, now);
                }
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.site_open = false;
                }
            }
            Event::DialFailed(site, generation) => {
                let site = &mut self.sites[site];
                if site.generation == generation {
                    site.machine.handle_connect_failed(now);
                }
            }
            Event::PlanChecked(site, generation, signed) => {
                self.plan_checked(site, generation, &signed)
            }
            Event::Step(site, generation, round, step) => {
                let site = &mut self.sites[site];
                if site.generation == generation {
                    site.machine.progress(round, step);
                }
            }
            Event::Trained(site, generation, round) => self.trained(site, generation, round),
            _ => unreachable!("an event of the server"),
        }
    }

    pub(super) fn site_gets_transfer(&mut self, connection: ConnectionId, header: &TransferHeader) {
        let now = self.now;
        // Bases are kept in memory where there is no disk.
        let keeps = self.weather.spool || self.plan.download == Download::Delta;
        let is_spoilt = keeps && self.plan.download == Download::Delta && {
            let damage = self.weather.damage;
            damage > 0 && self.rng.chance(damage)
        };
        let line = self.lines.get_mut(&connection).unwrap();
        if !line.reaches_site() {
            return;
        }
        line.sending.retain(|(sending, _)| sending != header);
        let Some(site) = self.site_of(connection) else {
            return;
        };
        let begun = site.begun.remove(&header.sha256);
        let listed = site.listed.get(&header.sha256).copied().unwrap_or(0);
        assert!(
            header.offset <= listed,
            "bytes were left out that nobody said were there"
        );
        // A content that overtook this one may have taken the room of its beginning.
        let is_whole = begun.is_some_and(|begun| header.offset <= begun.bytes && !begun.is_damaged);
        if 0 < header.offset && !is_whole {
            return site.machine.handle_transfer_damaged(header);
        }
        let adapter = if header.kind.is_delta() {
            match site.rebuild(header, now) {
                Some(adapter) => adapter,
                None => return,
            }
        } else {
            if site.machine.handle_transfer_received(header, now) == Disposition::Keep {
                site.kept.insert(header.id);
            }
            header.content()
        };
        if keeps {
            let whole = Begun {
                bytes: adapter.bytes,
                is_damaged: is_spoilt,
            };
            site.begun = BTreeMap::from([(adapter.sha256, whole)]);
        }
    }

    /// Tells the coordinator what of the server's transfers never left on a connection that is over.
    pub(super) fn tell_unsent(&mut self, connection: ConnectionId) {
        let line = self.lines.get_mut(&connection).unwrap();
        let name = self.sites[line.site].name.clone();
        for (header, left) in std::mem::take(&mut line.sending) {
            let unsent = (header.id, header.remaining() - left);
            self.coordinator
                .transfer_unsent(connection, &name, unsent, self.now);
        }
    }

    pub(super) fn site_of(&mut self, connection: ConnectionId) -> Option<&mut Site> {
        let site = &mut self.sites[self.lines.get(&connection)?.site];
        (site.connection == Some(connection) && !site.puppet).then_some(site)
    }
}
