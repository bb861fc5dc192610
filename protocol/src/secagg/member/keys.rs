//! Fresh keys: ours under our signature, and those of all, each under its owner's.

use std::collections::BTreeSet;

use super::lists::{enough, shrinks};
use super::{Action, Group, Member, Stage};
use crate::secagg::Deceit;
use crate::secagg::context::keys_digest;
use crate::secagg::message::{ForServer, Keys, Piece, SignedKeys};
use crate::secagg::roster::Roster;
use crate::secagg::statement;

impl Member {
    /// The fresh public keys; `sign` signs with the key of our certificate.
    pub fn advertised(&mut self, keys: Keys, sign: impl FnOnce(&[u8]) -> Vec<u8>) {
        if let (Stage::Advertising, Some(group)) = (self.stage, &self.group) {
            let signature = sign(&statement::of_keys(&group.context, group.own, &keys));
            self.own_keys = Some(keys);
            self.say(Stage::AwaitingKeys, ForServer::Keys { keys, signature });
        }
    }

    pub(super) fn take_keys(&mut self, part: Piece<SignedKeys>) -> Result<(), Deceit> {
        let what = "keys";
        let Some(group) = self.group.clone() else {
            return Ok(());
        };
        let added = self.key_list.add(part, group.roster.len());
        let Some(keys) = added.map_err(|_| Deceit::List { what })? else {
            return Ok(());
        };
        let present: Vec<_> = keys.iter().map(|one| one.member).collect();
        let all: Vec<_> = group.roster.ids().collect();
        shrinks(what, &present, &all)?;
        enough(what, present.len(), self.least(&group.arrangement))?;
        let ours = keys.iter().find(|one| one.member == group.own);
        if ours.map(|ours| ours.keys) != self.own_keys {
            return Err(Deceit::NotOurselves { what });
        }
        self.check_signatures(&group, &keys)?;
        distinct(&group.roster, &keys)?;
        self.keys_digest = keys_digest(&keys);
        let arrangement = &group.arrangement;
        self.neighbours = arrangement.neighbours_of(group.own, &present, &self.keys_digest);
        enough(
            what,
            self.neighbours.len() + 1,
            arrangement.threshold() as usize,
        )?;
        let is_near =
            |one: &&SignedKeys| one.member == group.own || self.neighbours.contains(&one.member);
        let near = keys.iter().filter(is_near);
        let places = near.map(|one| (one.member, one.keys.sealing)).collect();
        self.keys = keys;
        self.stage = Stage::Sharing;
        self.actions.push_back(Action::Share {
            keys: self.keys_digest,
            threshold: arrangement.threshold(),
            places,
        });
        Ok(())
    }

    fn check_signatures(&self, group: &Group, keys: &[SignedKeys]) -> Result<(), Deceit> {
        for one in keys {
            let said = statement::of_keys(&group.context, one.member, &one.keys);
            let signer = group.roster.get(one.member);
            let holds = signer.is_some_and(|member| {
                (self.setup.verify)(&member.public_key, &said, &one.signature)
            });
            if !holds {
                let (name, what) = (group.roster.name(one.member), "keys");
                return Err(Deceit::Signature { name, what });
            }
        }
        Ok(())
    }
}

/// No key is there twice: two members with one key would be one.
fn distinct(roster: &Roster, keys: &[SignedKeys]) -> Result<(), Deceit> {
    let mut seen = BTreeSet::new();
    for one in keys {
        for key in [one.keys.sealing, one.keys.masking] {
            if !seen.insert(key) {
                let has =
                    |other: &&SignedKeys| [other.keys.sealing, other.keys.masking].contains(&key);
                let first = keys
                    .iter()
                    .find(has)
                    .map_or(one.member, |other| other.member);
                let (first, second) = (roster.name(first), roster.name(one.member));
                return Err(Deceit::SameKey { first, second });
            }
        }
    }
    Ok(())
}
