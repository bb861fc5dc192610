//! A site's owner: checks plans, trains, delivers, and does what the machine asks for.

use super::*;

/// The weight of the updates of a site: no two have the same.
pub(super) fn weight(index: usize) -> u64 {
    10 + index as u64
}

impl Site {
    /// The process dies, or writes something else: what is on disk by now stays.
    pub(super) fn stop_writing(&mut self, now: Instant) {
        if let Some((_, spooled)) = self.writing.take_if(|(when, _)| *when <= now) {
            self.spool = Some(spooled);
        }
        self.writing = None;
    }

    /// From when on the server may have all of what is sent.
    fn written(&self) -> Option<Instant> {
        self.writing.as_ref().map(|(when, _)| *when)
    }

    /// Rebuilds an adapter from its delta, if its base is here, as a client does.
    pub(super) fn rebuild(&mut self, delta: &TransferHeader, now: Instant) -> Option<Content> {
        let is_final = delta.kind == TransferKind::FinalDelta;
        let release = release(delta.round.0 - u32::from(!is_final));
        let base = release.delta.expect("a server has one").base;
        let unusable = match self.begun.get(&base) {
            Some(base) if base.bytes < ADAPTER_BYTES => Some(ResendReason::NoBase),
            Some(base) if base.is_damaged => Some(ResendReason::BaseDamaged),
            Some(_) => None,
            None => Some(ResendReason::NoBase),
        };
        if let Some(reason) = unusable {
            self.begun.remove(&base);
            self.machine.handle_delta_unusable(delta, reason);
            return None;
        }
        let adapter = release.adapter;
        if let Some(header) = self.machine.handle_delta_rebuilt(delta, adapter, now) {
            self.kept.insert(header.id);
        }
        Some(adapter)
    }
}

impl Pair {
    pub(super) fn act_for_site(&mut self, index: usize, action: participant::Action) {
        let now = self.now;
        let generation = self.sites[index].generation;
        match action {
            participant::Action::Connect => self.dial(index),
            participant::Action::Send(message) => {
                if let ToServer::Received { transfer } = message {
                    let is_final = self.server.finals.contains(&transfer);
                    let durable = self.sites[index].durable;
                    assert!(
                        !is_final || durable == Some(transfer),
                        "said before it was safe"
                    );
                }
                if let Some(connection) = self.sites[index].connection {
                    if self.rng.chance(self.weather.cut) {
                        self.break_line(connection);
                    }
                    self.send_to_server(connection, Event::ServerGets(connection, message));
                }
            }
            participant::Action::CheckPlan(signed) => {
                let when = now + self.rng.between(self.weather.latency_ms);
                self.at(when, Event::PlanChecked(index, generation, signed));
            }
            participant::Action::Train {
                round,
                global,
                steps,
                first_step,
            } => {
                assert_eq!(first_step, (round.0 - 1) * steps);
                assert!(
                    self.sites[index].kept.contains(&global.id),
                    "told to train from bytes that were not kept"
                );
                self.sites[index].trainings.push(round);
                self.sites[index].global = Some(global.sha256);
                if !self.sites[index].manual {
                    self.train(index, round, steps);
                }
            }
            participant::Action::StopTraining { .. } => self.sites[index].generation += 1,
            participant::Action::SendTransfer { header } => self.upload(index, header),
            participant::Action::Keep { adapter } => {
                assert!(self.sites[index].kept.contains(&adapter.id));
                self.sites[index].durable = Some(adapter.id);
            }
            participant::Action::Forget { transfer }
            | participant::Action::Withdraw { transfer } => {
                self.sites[index].kept.remove(&transfer);
            }
            participant::Action::Close(_) => {
                if let Some(connection) = self.sites[index].connection.take() {
                    self.send_to_server(connection, Event::ServerLost(connection));
                    self.lines.get_mut(&connection).unwrap().site_open = false;
                }
            }
            participant::Action::Remember(evidence) => self.sites[index].evidence.push(evidence),
            participant::Action::Report(participant::Report::Accepted { round }) => {
                self.sites[index].acknowledged.insert(round);
                assert!(self.sites[index].heard.insert(round), "acknowledged twice");
            }
            participant::Action::Secure { .. } => {
                unreachable!("no plan here has secure aggregation")
            }
            participant::Action::Report(report) => self.sites[index].reports.push(report),
            participant::Action::End(outcome) => self.site_ends(index, outcome),
        }
    }

    pub(super) fn site_ends(&mut self, index: usize, outcome: participant::Outcome) {
        if let participant::Outcome::Finished { adapter, .. } = &outcome {
            assert!(
                self.sites[index].kept.contains(&adapter.id),
                "the final adapter was not kept"
            );
        }
        self.sites[index].outcome = Some(outcome);
        if let Some(connection) = self.sites[index].connection.take() {
            self.send_to_server(connection, Event::ServerLost(connection));
        }
    }

    pub(super) fn dial(&mut self, index: usize) {
        let latency = self.rng.between(self.weather.latency_ms);
        let generation = self.sites[index].generation;
        if self.rng.chance(self.weather.dial_fails) {
            self.at(self.now + latency, Event::DialFailed(index, generation));
            return;
        }
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.lines.insert(connection, Line::new(index, self.now));
        self.sites[index].connection = Some(connection);
        self.send_to_server(connection, Event::ServerConnected(connection, index));
        self.at(self.now + latency * 2, Event::SiteConnected(connection));
    }

    pub(super) fn plan_checked(&mut self, index: usize, generation: u64, signed: &SignedPlan) {
        let now = self.now;
        let site = &mut self.sites[index];
        if site.generation != generation || site.machine.is_over() {
            return;
        }
        match signed.open(&Eye) {
            Ok(_) if site.declines => site
                .machine
                .decline(Text::new("against the site's policy"), now)
                .unwrap(),
            Ok(plan) => {
                let mut witness = Witness::new(plan.digest(), &site.name);
                for evidence in &site.evidence {
                    witness.recall(evidence).unwrap();
                }
                let agreed = site.machine.accept_plan(plan, AnchorCopy::Missing, witness);
                agreed.unwrap();
            }
            Err(error) => site.machine.refuse_plan(error).unwrap(),
        }
    }

    pub(super) fn train(&mut self, index: usize, round: Round, steps: u32) {
        let whole = self.rng.between(self.weather.train_ms);
        let generation = self.sites[index].generation;
        if self.rng.chance(self.weather.hang) {
            return;
        }
        if self.rng.chance(self.weather.kill) {
            let when = self.now + whole / 2;
            self.cut(index);
            self.sites[index].generation += 1;
            self.at(when, Event::Restart(index));
            return;
        }
        for step in 1..=steps {
            let when = self.now + whole * step / steps;
            self.at(when, Event::Step(index, generation, round, step));
        }
        self.at(self.now + whole, Event::Trained(index, generation, round));
    }

    pub(super) fn trained(&mut self, index: usize, generation: u64, round: Round) {
        let digest = self.plan.digest();
        let disk_ms = self.weather.disk_ms;
        let lag = (0 < disk_ms.1).then(|| self.rng.between(disk_ms));
        let site = &mut self.sites[index];
        if site.generation != generation {
            return;
        }
        let update = content(&format!("{} in {round} by {generation}", site.name));
        let metrics = Metrics {
            train_loss: Some(1.5),
        };
        site.made.insert((round, update.sha256));
        let weight = weight(index);
        let header = site
            .machine
            .trained(round, update, weight, metrics)
            .unwrap();
        if let (Some(header), Some(global)) = (header, site.global) {
            site.kept.insert(header.id);
            let spooled = Spooled {
                plan: digest,
                round,
                global,
                update,
                weight,
                metrics,
            };
            site.stop_writing(self.now);
            site.writing = Some((self.now + lag.unwrap_or_default(), spooled));
            if lag.is_none() {
                site.stop_writing(self.now);
            }
        }
    }

    /// A site finished an update and its process died before anybody heard of it.
    pub(crate) fn trained_unheard(&mut self, index: usize, round: Round) {
        let plan = self.plan.digest();
        let site = &mut self.sites[index];
        let update = content(&format!("{} unheard in {round}", site.name));
        site.made.insert((round, update.sha256));
        site.spool = site.global.map(|global| Spooled {
            plan,
            round,
            global,
            update,
            weight: weight(index),
            metrics: Metrics::default(),
        });
    }

    pub(super) fn upload(&mut self, index: usize, header: TransferHeader) {
        self.sites[index].delivered.push(header);
        if self.sites[index].manual {
            return;
        }
        let Some(connection) = self.sites[index].connection else {
            return;
        };
        let arrived = self.now + self.bulk_time();
        // The last byte waits for the disk.
        let when = self.sites[index]
            .written()
            .map_or(arrived, |written| arrived.max(written));
        if self.rng.chance(self.weather.cut_bulk) {
            let kept = header.offset + header.remaining() / 2;
            self.at(when, Event::BulkCut(connection, Some((header, kept))));
            return;
        }
        if self.weather.corrupt > 0 && self.rng.chance(self.weather.corrupt) {
            self.at(when, Event::ServerGetsOtherBytes(connection, header));
            return;
        }
        self.at(when, Event::ServerGetsTransfer(connection, header));
        if self.rng.chance(self.weather.duplicate) {
            let again = when + self.bulk_time();
            self.at(again, Event::ServerGetsTransfer(connection, header));
        }
    }
}
