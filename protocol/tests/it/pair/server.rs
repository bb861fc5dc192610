//! The server's owner: folds, forms adapters, and does what the coordinator asks for.

use super::*;

impl Server {
    /// Notes a transfer of the final adapter, which is acknowledged under its own name, also if it comes as a delta.
    pub(super) fn note_final(&mut self, header: &TransferHeader) {
        let whole = header.rebuilt(global(header.round.0));
        let whole = whole.unwrap_or(*header);
        if whole.kind == TransferKind::FinalAdapter {
            self.finals.insert(whole.id);
        }
    }

    /// Whether this participant's update waits for an answer.
    pub(crate) fn is_with_owner(&self, site: &str) -> bool {
        self.with_owner.contains_key(&name(site))
    }
}

impl Pair {
    pub(super) fn server_gets_transfer(
        &mut self,
        connection: ConnectionId,
        header: TransferHeader,
    ) {
        if !self.lines[&connection].reaches_server() {
            return;
        }
        // While a round is aggregated, what is late for it comes for the next.
        let done = self.server.history.rounds_done;
        let open = self.coordinator.open_round().unwrap_or(Round(done + 2));
        let admission = self
            .coordinator
            .handle_update_received(connection, &header, self.now);
        if let Some(admission) = admission {
            let name = admission.participant;
            assert_eq!(
                admission.round, open,
                "an update was admitted into a round that is not open"
            );
            let trained = (admission.transfer.round, name.clone());
            assert!(
                self.server.asked.contains(&trained),
                "{name} was not asked for what is admitted"
            );
            assert!((1..=self.plan.limits.weight_max).contains(&admission.weight));
            let folded = self.server.folded.get(&admission.round);
            assert!(
                folded.is_none_or(|folded| !folded.contains_key(&name)),
                "{name} is to be folded twice"
            );
            let update = (admission.transfer.sha256, admission.weight);
            assert!(
                self.is_own_of(&name, admission.transfer.round, update),
                "{name} did not make what is admitted"
            );
            assert_eq!(
                self.server.with_owner.insert(name.clone(), update),
                None,
                "{name} is already with the owner"
            );
            if !self.hold_folds {
                let when = self.now + self.rng.between(self.weather.fold_ms);
                self.at(when, Event::Folded(self.server.crashes, name));
            }
        }
    }

    /// Whether this site made this update for this round, if no test speaks for it.
    fn is_own_of(&self, name: &ParticipantName, round: Round, (sha256, weight): Folded) -> bool {
        let (index, site) = self
            .sites
            .iter()
            .enumerate()
            .find(|(_, site)| site.name == *name)
            .unwrap();
        let is_own = site.made.contains(&(round, sha256)) && weight == site::weight(index);
        site.was_spoken_for || is_own
    }

    /// As the server's driver does: other bytes are the sender's fault, unless we kept their beginning.
    pub(super) fn server_gets_other_bytes(
        &mut self,
        connection: ConnectionId,
        header: &TransferHeader,
    ) {
        if !self.lines[&connection].reaches_server() {
            return;
        }
        if 0 < header.offset {
            self.coordinator
                .restart_delivery(connection, header.id, self.now);
        } else if let Some(admission) = self
            .coordinator
            .handle_update_received(connection, header, self.now)
        {
            let (name, reason) = (admission.participant, RefusalReason::WrongDigest);
            self.coordinator
                .handle_update_refused(&name, reason, self.now)
                .unwrap();
        }
    }

    /// Answers for an update that is with the owner.
    pub(crate) fn folded(&mut self, name: ParticipantName) {
        let update = self.server.with_owner.remove(&name);
        let update = update.unwrap_or_else(|| panic!("{name} is not with the owner"));
        let Some(round) = self.coordinator.open_round() else {
            assert!(
                self.coordinator.is_over(),
                "a round was closed while an update was with the owner"
            );
            return;
        };
        if self.rng.chance(self.weather.refuse) {
            self.coordinator
                .handle_update_refused(&name, RefusalReason::OverNorm, self.now)
                .unwrap();
        } else {
            self.server
                .folded
                .entry(round)
                .or_default()
                .insert(name.clone(), update);
            self.coordinator
                .handle_update_accepted(&name, self.now)
                .unwrap();
        }
    }

    pub(super) fn bulk_cut(
        &mut self,
        connection: ConnectionId,
        kept: Option<(TransferHeader, u64)>,
    ) {
        let line = &self.lines[&connection];
        if line.cut || !line.server_open || !line.site_open {
            return;
        }
        let site = &mut self.sites[line.site];
        match kept {
            Some((header, bytes)) if header.kind == TransferKind::Update => {
                let name = site.name.clone();
                self.coordinator
                    .update_kept(connection, &name, header.id, bytes);
            }
            Some((header, bytes)) => {
                let line = self.lines.get_mut(&connection).unwrap();
                let left = bytes - header.offset;
                line.sending.retain(|(sending, _)| *sending != header);
                line.sending.push((header, left));
                let is_damaged = self.rng.chance(self.weather.damage);
                let begun = Begun { bytes, is_damaged };
                site.begun.insert(header.sha256, begun);
            }
            None => {}
        }
        self.break_line(connection);
    }

    pub(super) fn aggregate(&mut self, summary: RoundSummary) {
        let round = summary.round;
        let folded = self.server.folded.entry(round).or_default();
        let counted = summary.accepted.iter();
        let counted = counted.map(|one| (one.participant.clone(), (one.sha256, one.weight)));
        let counted: BTreeMap<_, _> = counted.collect();
        assert_eq!(*folded, counted, "round {round} counts what was folded");
        assert!(
            self.plan.cohort.quorum as usize <= counted.len(),
            "round {round} has no quorum"
        );
        assert_eq!(summary.accepted.len(), counted.len());
        assert_eq!(
            round.0 as usize,
            self.server.summaries.len() + 1,
            "rounds come in order"
        );
        self.is_aggregating = true;
        self.server.summaries.push(summary);
        self.each_update_counts_once();
        let when = self.now + self.rng.between(self.weather.fold_ms);
        self.at(when, Event::Aggregated(self.server.crashes, round));
    }

    /// Over all rounds: no update of a participant for one round counts twice, nor later than the plan allows.
    pub(super) fn each_update_counts_once(&self) {
        let mut counted = BTreeSet::new();
        for summary in &self.server.summaries {
            for update in &summary.accepted {
                let trained = Round(summary.round.0 - update.rounds_late);
                let latest = self.plan.cohort.late.last_round(trained);
                assert!(summary.round <= latest, "{update:?} counts too late");
                assert!(
                    counted.insert((&update.participant, trained)),
                    "{update:?} counts again in {}",
                    summary.round
                );
            }
        }
    }

    /// Does what the machines ask for, until they ask for nothing.
    pub(crate) fn act(&mut self) {
        loop {
            let mut idle = true;
            while let Some(action) = self.coordinator.poll_action() {
                idle = false;
                let number = self.server.actions;
                self.server.actions += 1;
                if self.server.outcome.is_none()
                    && (self.crash_before == Some(number) || self.rng.chance(self.weather.crash))
                {
                    self.crash();
                    continue;
                }
                let is_record = matches!(action, coordinator::Action::Record(_));
                let full = self.weather.disk_full;
                if is_record && full > 0 && self.rng.chance(full) {
                    self.disk_full();
                    continue;
                }
                self.act_for_server(action);
            }
            for index in 0..self.sites.len() {
                let site = &mut self.sites[index];
                site.was_spoken_for |= site.manual || site.puppet;
                while let Some(action) = self.sites[index].machine.poll_action() {
                    idle = false;
                    self.act_for_site(index, action);
                }
            }
            if idle {
                return;
            }
        }
    }

    fn send_transfer(&mut self, connection: ConnectionId, header: TransferHeader) {
        let name = self.sites[self.lines[&connection].site].name.clone();
        self.server.transfers.push((name, header));
        let line = self.lines.get_mut(&connection).unwrap();
        line.sending.push((header, 0));
        self.server.note_final(&header);
        let when = self.now + self.bulk_time();
        let cut = self.rng.chance(self.weather.cut_bulk);
        let event = if cut {
            let kept = header.offset + header.remaining() / 2;
            Event::BulkCut(connection, Some((header, kept)))
        } else {
            Event::SiteGetsTransfer(connection, header)
        };
        self.at(when, event);
    }

    pub(super) fn act_for_server(&mut self, action: coordinator::Action) {
        assert!(
            self.server.outcome.is_none() || matches!(action, coordinator::Action::Close { .. })
        );
        match action {
            coordinator::Action::Send {
                connection,
                message,
            } => {
                let name = self.sites[self.lines[&connection].site].name.clone();
                if let ToClient::Train { global } = &message {
                    self.server.asked.insert((global.round, name.clone()));
                }
                if let ToClient::Accepted { round } = &message {
                    let folded = self.server.folded.get(round);
                    assert!(
                        folded.is_some_and(|folded| folded.contains_key(&name)),
                        "acknowledged and not folded"
                    );
                    let history = &self.server.history;
                    let open = history.open.as_ref().filter(|_| *round == history.round());
                    assert!(
                        round.0 <= history.rounds_done
                            || open.is_some_and(|open| open.accepted.contains_key(&name)),
                        "acknowledged and not written down"
                    );
                }
                self.server.sent.push((name, message.clone()));
                if self.rng.chance(self.weather.cut) {
                    self.break_line(connection);
                }
                self.send_to_site(connection, Event::SiteGets(connection, message));
            }
            coordinator::Action::SendTransfer { connection, header } => {
                self.send_transfer(connection, header)
            }
            coordinator::Action::Close {
                connection, code, ..
            } => {
                let line = self.lines.get_mut(&connection).unwrap();
                line.server_open = false;
                let name = self.sites[line.site].name.clone();
                self.server.closes.push((Some(name), code));
                self.tell_unsent(connection);
                self.send_to_site(connection, Event::SiteLost(connection, Some(code)));
            }
            coordinator::Action::Aggregate { summary } => self.aggregate(summary),
            coordinator::Action::BeginSum { .. } | coordinator::Action::OpenSum(_) => {
                unreachable!("no plan here has secure aggregation")
            }
            coordinator::Action::Record(entry) => self.server.history.note(entry),
            coordinator::Action::Report(report) => self.server.reports.push(report),
            coordinator::Action::End(outcome) => {
                assert!(
                    self.server.outcome.replace(outcome).is_none(),
                    "a run ends once"
                );
            }
        }
    }
}
