//! An adapter from its delta and the one before, which is here.

use std::io;

use aggregation::delta::Delta;
use bytes::Bytes;
use protocol::{
    Digest,
    message::{Content, ResendReason},
};

/// Why no adapter came of a delta.
#[derive(Debug, PartialEq)]
pub(in crate::federate) struct Unusable {
    /// For the server.
    pub(in crate::federate) reason: ResendReason,
    /// For our log.
    pub(in crate::federate) what: String,
}

impl Unusable {
    fn new(reason: ResendReason, what: String) -> Self {
        Self { reason, what }
    }
}

/// An adapter that was rebuilt.
#[derive(Debug, PartialEq)]
pub(in crate::federate) struct Rebuilt {
    pub(in crate::federate) content: Content,
    pub(in crate::federate) bytes: Bytes,
}

/// Rebuilds an adapter and checks that it is the one that the delta is to come to; `base` looks for what it is against.
///
/// # Errors
/// The outer one is of looking for the base; the inner one says whether the delta or our copy of the base is to blame.
pub(super) fn rebuild(
    delta: &[u8],
    base: impl FnOnce(Digest) -> io::Result<Option<Bytes>>,
) -> io::Result<Result<Rebuilt, Unusable>> {
    let delta = match Delta::parse(delta) {
        Ok(delta) => delta,
        Err(error) => {
            return Ok(Err(Unusable::new(
                ResendReason::BadDelta,
                error.to_string(),
            )));
        }
    };
    let digest = Digest(delta.base());
    let Some(base) = base(digest)? else {
        let what = format!("the adapter {digest} that it is against is not here");
        return Ok(Err(Unusable::new(ResendReason::NoBase, what)));
    };
    let what = match delta.rebuild(&base[..]) {
        Ok(bytes) => {
            let content = Content::of(&bytes);
            if content.sha256.0 == delta.adapter() {
                let bytes = Bytes::from(bytes);
                return Ok(Ok(Rebuilt { content, bytes }));
            }
            "it comes to another adapter than it says".to_owned()
        }
        Err(error) => error.to_string(),
    };
    // Whose fault it is costs a digest, and only then.
    Ok(Err(if Digest::of(&base) == digest {
        Unusable::new(ResendReason::BadDelta, what)
    } else {
        let what = format!("the adapter {digest} that it is against was damaged here");
        Unusable::new(ResendReason::BaseDamaged, what)
    }))
}
