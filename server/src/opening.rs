//! Takes the masks off a round's sum with what its members revealed, and nothing that is a single update's.

use aggregation::masking::{
    Commitment, Context, MaskSet, PublicKey, RingSum, Share, Sign, recover_pair_key,
    recover_self_mask,
};
use protocol::secagg::{MemberId, Opening, Revealed, Secret};

/// Takes the masks off.
///
/// # Errors
/// In words, whose secret could not be put together, or what is wrong with the sum.
pub(crate) fn open(sum: &mut RingSum, opening: &Opening) -> Result<(), String> {
    let mut masks = MaskSet::new();
    for revealed in &opening.secrets {
        add_masks(&mut masks, opening, revealed)?;
    }
    sum.unmask(&masks);
    Ok(())
}

fn add_masks(masks: &mut MaskSet, opening: &Opening, revealed: &Revealed) -> Result<(), String> {
    let context = Context(opening.context.0);
    let threshold = opening.threshold as usize;
    let of = revealed.of;
    let keys = keys(opening, of)?;
    let shares = revealed.shares.iter().map(|share| Share {
        x: share.x,
        y: share.y,
    });
    let shares: Vec<_> = shares.collect();
    let failed = |what: &str, error: String| {
        format!(
            "the {what} of {} cannot be put together: {error}",
            name(opening, of)
        )
    };
    match &revealed.secret {
        Secret::SelfMask => {
            let commitment = Commitment(keys.commitment);
            let found = recover_self_mask(&context, of.0, &commitment, &shares, threshold)
                .map_err(|error| failed("mask", error.to_string()))?;
            masks.push(found.secret.mask_key(&context, of.0), Sign::Plus);
        }
        Secret::PairKey { neighbours } if neighbours.is_empty() => {}
        Secret::PairKey { neighbours } => {
            let public = PublicKey(keys.masking);
            let found = recover_pair_key(&public, &shares, threshold)
                .map_err(|error| failed("masking key", error.to_string()))?;
            for &peer in neighbours {
                let theirs = PublicKey(self::keys(opening, peer)?.masking);
                let key = found.secret.mask_key(&context, of.0, (peer.0, &theirs));
                let key = key.ok_or_else(|| failed("masks", "a key is worthless".to_owned()))?;
                masks.push(key, Sign::of_pair(peer.0, of.0));
            }
        }
    }
    Ok(())
}

fn keys(opening: &Opening, of: MemberId) -> Result<&protocol::secagg::Keys, String> {
    let keys = opening.keys.get(&of);
    keys.ok_or_else(|| format!("the keys of {} are missing", name(opening, of)))
}

fn name(opening: &Opening, of: MemberId) -> String {
    opening
        .names
        .get(&of)
        .map_or_else(|| format!("member {}", of.0), ToString::to_string)
}
