//! What a member's owner does: keys, shares and masks by real cryptography, and what takes masks off again.

use super::*;

impl Site {
    pub(super) fn leave(&mut self, deceit: Deceit) {
        self.deceit.get_or_insert(deceit);
    }

    /// Does what the machine asks for; gives the masked vector when it is made.
    pub(super) fn perform(&mut self, action: Action) -> Option<Vec<u32>> {
        match action {
            Action::CheckRoster(entries) => {
                let found = entries.into_iter().map(check).collect();
                let found = match self.finds_over {
                    Some(member) => Err(Unfit::Disputed { member }),
                    None => found,
                };
                if let Err(deceit) = self.machine.roster_checked(found) {
                    self.leave(deceit);
                }
            }
            Action::Advertise { context, own } => {
                let vault = Vault::draw(Context(context.0), own.0, &mut self.rng);
                let advertised = vault.advertised();
                let mut keys = Keys {
                    sealing: advertised.sealing.0,
                    masking: advertised.masking.0,
                    commitment: advertised.commitment.0,
                };
                if self.repeats_its_key {
                    keys.masking = keys.sealing;
                }
                self.vault = Some(vault);
                let public = public_key(&self.name);
                self.machine
                    .advertised(keys, |message| sign(&public, message));
            }
            Action::Share {
                keys,
                threshold,
                places,
            } => self.share(&keys, threshold as usize, &places),
            Action::Mask { shares, peers } => return self.mask(&shares, &peers),
            Action::Confirm { statement } => {
                self.machine
                    .confirmed(sign(&public_key(&self.name), &statement));
            }
            Action::Record(earlier) => self.records.push(earlier),
            Action::Reveal { delivered, dropped } => self.reveal(&delivered, &dropped),
            Action::Send(_) => unreachable!("sent by the world"),
        }
        None
    }

    pub(super) fn share(
        &mut self,
        keys: &Digest,
        threshold: usize,
        places: &[(MemberId, [u8; 32])],
    ) {
        let places: Vec<_> = places
            .iter()
            .map(|(id, key)| (id.0, PublicKey(*key)))
            .collect();
        self.keys = Some(*keys);
        let vault = self.vault.as_mut().unwrap();
        let sealed = vault
            .share(keys.0, threshold, &places, &mut self.rng)
            .unwrap();
        let sealed: Vec<_> = sealed
            .into_iter()
            .map(|(id, bytes)| Sealed {
                member: MemberId(id),
                bytes: bytes.to_vec(),
            })
            .collect();
        self.machine.shared(&sealed);
    }

    pub(super) fn mask(
        &mut self,
        shares: &[Sealed],
        peers: &[(MemberId, [u8; 32])],
    ) -> Option<Vec<u32>> {
        let vault = self.vault.as_mut().unwrap();
        for sealed in shares {
            if vault.keep(sealed.member.0, &sealed.bytes).is_err() {
                self.machine.object(sealed.member);
                return None;
            }
        }
        let peers: Vec<_> = peers
            .iter()
            .map(|(id, key)| (id.0, PublicKey(*key)))
            .collect();
        let mut vector = self.plain.clone();
        vault
            .masks(&peers)
            .unwrap()
            .add_to(Ring::Bits32, &mut vector);
        self.machine.masked();
        Some(vector)
    }

    pub(super) fn reveal(&mut self, delivered: &[MemberId], dropped: &[MemberId]) {
        assert_eq!(self.records.len(), 1, "written down before it is said");
        let both: BTreeSet<_> = delivered.iter().chain(dropped).collect();
        assert_eq!(
            both.len(),
            delivered.len() + dropped.len(),
            "one kind for each"
        );
        let ids = |list: &[MemberId]| -> Vec<u32> { list.iter().map(|id| id.0).collect() };
        let vault = self.vault.take().unwrap();
        let shares = vault.reveal(&ids(delivered), &ids(dropped)).unwrap();
        self.revealed += 1;
        let share = |(of, share): (u32, RawShare)| Share {
            of: MemberId(of),
            x: share.x,
            y: share.y,
        };
        self.machine
            .revealed(shares.into_iter().map(share).collect());
    }
}

fn check(entry: RosterEntry) -> Result<VerifiedMember, Unfit> {
    let RosterEntry { name, certificates } = entry;
    if certificates != [public_key(&name).to_vec()] {
        let what = "another authority".to_owned();
        return Err(Unfit::Deceit(Deceit::Certificate { name, what }));
    }
    let public_key = public_key(&name);
    Ok(VerifiedMember { name, public_key })
}

/// The masks that are still on the sum.
pub(super) fn masks(opening: &Opening) -> MaskSet {
    let (mut masks, context) = (MaskSet::new(), Context(opening.context.0));
    for revealed in &opening.secrets {
        let keys = &opening.keys[&revealed.of];
        let shares: Vec<_> = revealed
            .shares
            .iter()
            .map(|share| RawShare {
                x: share.x,
                y: share.y,
            })
            .collect();
        let threshold = opening.threshold as usize;
        match &revealed.secret {
            Secret::SelfMask => {
                let commitment = Commitment(keys.commitment);
                let found =
                    recover_self_mask(&context, revealed.of.0, &commitment, &shares, threshold)
                        .unwrap();
                masks.push(found.secret.mask_key(&context, revealed.of.0), Sign::Plus);
            }
            Secret::PairKey { neighbours } => {
                let public = PublicKey(keys.masking);
                let found = recover_pair_key(&public, &shares, threshold).unwrap();
                for peer in neighbours {
                    let theirs = PublicKey(opening.keys[peer].masking);
                    let key = found
                        .secret
                        .mask_key(&context, revealed.of.0, (peer.0, &theirs))
                        .unwrap();
                    masks.push(key, Sign::of_pair(peer.0, revealed.of.0));
                }
            }
        }
    }
    masks
}
