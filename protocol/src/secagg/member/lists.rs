//! What holds of every list of members that a server shows.

use crate::secagg::Deceit;
use crate::secagg::roster::MemberId;

/// A list is in order and within the one before it.
pub(super) fn shrinks(
    what: &'static str,
    list: &[MemberId],
    before: &[MemberId],
) -> Result<(), Deceit> {
    let ordered = list.windows(2).all(|pair| pair[0] < pair[1]);
    if ordered && list.iter().all(|one| before.binary_search(one).is_ok()) {
        Ok(())
    } else {
        Err(Deceit::List { what })
    }
}

pub(super) fn enough(what: &'static str, found: usize, least: usize) -> Result<(), Deceit> {
    if least <= found {
        Ok(())
    } else {
        Err(Deceit::TooFew { what, found, least })
    }
}
