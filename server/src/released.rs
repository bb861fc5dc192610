//! The adapter that a round came to, in the bytes in which it is sent to everybody: whole, and as a delta against the one before.
//!
//! Whole, it is held until those who wait for it are being sent it, and then for as long as anybody is ([`AdapterBytes`]). A delta is
//! made once a round and kept in memory until the next is, a third to a half of the adapter's bytes in bf16. It is
//! made again, to the same bytes, when the server is started again.

use std::sync::Arc;

use aggregation::delta::{Travelling, between};
use aggregation::{Adapter, Encoding};
use bytes::Bytes;
use protocol::Digest;
use protocol::coordinator::{Delta, Release};
use protocol::message::{Content, TransferKind};

use crate::adapter_bytes::AdapterBytes;

/// An adapter and its delta, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Released {
    pub(crate) release: Release,
    adapter: Arc<AdapterBytes>,
    /// The adapter's bytes, until [`Self::handed_over`].
    fresh: Option<Bytes>,
    delta: Bytes,
}

/// What a transfer carries.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// These bytes.
    Bytes(Bytes),
    /// An adapter that is to be encoded first.
    Adapter(Arc<AdapterBytes>),
}

/// The adapter before, as its receivers have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base<'a> {
    pub(crate) adapter: &'a Adapter,
    pub(crate) encoding: Encoding,
    /// SHA-256 of its bytes in that encoding.
    pub(crate) sha256: Digest,
}

impl Released {
    /// An adapter that is sent whole, and its bytes.
    pub(crate) fn new(content: Content, adapter: AdapterBytes, bytes: Bytes) -> Self {
        Self {
            release: Release::whole(content),
            adapter: Arc::new(adapter),
            fresh: Some(bytes),
            delta: Bytes::new(),
        }
    }

    /// An adapter that is sent whole.
    pub(crate) fn whole(adapter: &Arc<Adapter>, encoding: Encoding) -> Self {
        let adapter = AdapterBytes::new(adapter, encoding);
        let bytes = adapter.get();
        Self::new(Content::of(&bytes), adapter, bytes)
    }

    /// The same with a delta against the one before, unless that would be no shorter.
    pub(crate) fn against(mut self, base: Base<'_>, adapter: &Adapter, encoding: Encoding) -> Self {
        let before = Travelling {
            values: base.adapter.values(),
            encoding: base.encoding,
            sha256: base.sha256.0,
        };
        let after = Travelling {
            values: adapter.values(),
            encoding,
            sha256: self.release.adapter.sha256.0,
        };
        let whole = encoding.size(adapter.values().len());
        match between(before, after) {
            Ok(delta) if delta.len() < whole => {
                tracing::debug!(bytes = delta.len(), whole, "the adapter as a delta");
                let base = base.sha256;
                let content = Content::of(&delta);
                self.release.delta = Some(Delta { base, content });
                self.delta = Bytes::from(delta);
            }
            Ok(delta) => {
                let bytes = delta.len();
                tracing::info!(
                    bytes,
                    whole,
                    "this round's adapter is sent whole, which is shorter"
                );
            }
            // Participants get the same adapter either way.
            Err(error) => {
                tracing::warn!(%error, "no delta of this round's adapter; it is sent whole")
            }
        }
        self
    }

    /// Gives what a transfer of this kind carries.
    pub(crate) fn payload(&self, kind: TransferKind) -> Payload {
        if kind.is_delta() {
            return Payload::Bytes(self.delta.clone());
        }
        let held = self.adapter.held();
        held.map_or_else(
            || Payload::Adapter(Arc::clone(&self.adapter)),
            Payload::Bytes,
        )
    }

    /// Takes note that all who wait for the adapter are being sent it by now: the bytes are theirs.
    pub(crate) fn handed_over(&mut self) {
        self.fresh = None;
    }
}

#[cfg(test)]
mod tests {
    use aggregation::delta;
    use aggregation::{AdapterLayout, ModuleLayout};

    use super::*;

    fn bytes(payload: Payload) -> Bytes {
        match payload {
            Payload::Bytes(bytes) => bytes,
            Payload::Adapter(adapter) => adapter.get(),
        }
    }

    fn adapter(features: usize, seed: u64) -> Arc<Adapter> {
        let modules = vec![ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: features,
            out_features: features,
        }];
        let layout = Arc::new(AdapterLayout::new(2, 4.0, false, modules).unwrap());
        Arc::new(Adapter::initial(layout, seed))
    }

    #[test]
    fn a_delta_comes_to_the_bytes_of_the_whole() {
        let before = adapter(500, 1);
        let mut after = Arc::unwrap_or_clone(adapter(500, 1));
        after.scale(1.01);
        let after = Arc::new(after);
        for (from, to) in [
            (Encoding::Bf16, Encoding::Bf16),
            (Encoding::Bf16, Encoding::F32),
            (Encoding::F32, Encoding::F32),
        ] {
            let held = Released::whole(&before, from);
            let base = Base {
                adapter: &before,
                encoding: from,
                sha256: held.release.adapter.sha256,
            };
            let released = Released::whole(&after, to).against(base, &after, to);
            let delta = bytes(released.payload(TransferKind::GlobalDelta));
            let announced = released.release.delta.unwrap();
            assert_eq!(announced.content, Content::of(&delta));
            assert_eq!(announced.base, held.release.adapter.sha256);
            let parsed = delta::Delta::parse(&delta).unwrap();
            let rebuilt = parsed.rebuild(&bytes(held.payload(TransferKind::GlobalAdapter))[..]);
            let whole = bytes(released.payload(TransferKind::FinalAdapter));
            assert!(rebuilt.unwrap() == whole && delta.len() < whole.len());
        }
    }

    #[test]
    fn an_adapter_of_a_few_values_is_sent_whole_because_that_is_shorter() {
        let (before, after) = (adapter(3, 1), adapter(3, 2));
        let held = Released::whole(&before, Encoding::F32);
        let base = Base {
            adapter: &before,
            encoding: Encoding::F32,
            sha256: held.release.adapter.sha256,
        };
        let released = Released::whole(&after, Encoding::F32).against(base, &after, Encoding::F32);
        assert_eq!(released.release.delta, None);
    }
}
