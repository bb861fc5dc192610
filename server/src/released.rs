//! The adapter that a round came to, in the bytes in which it is sent to everybody: whole, and as a delta against the one before.
//!
//! A delta is made once a round and kept in memory until the next is, a third to a half of the adapter's bytes in bf16. It is
//! made again, to the same bytes, when the server is started again.

use std::sync::Arc;

use aggregation::delta::{Travelling, between};
use aggregation::{Adapter, Encoding};
use bytes::Bytes;
use protocol::Digest;
use protocol::coordinator::{Delta, Release};
use protocol::message::{Content, TransferKind};

use crate::adapter_bytes::adapter_bytes;

/// An adapter and its delta, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Released {
    pub(crate) release: Release,
    adapter: Bytes,
    delta: Bytes,
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
    /// An adapter that is sent whole, of known bytes.
    pub(crate) fn new(adapter: Content, bytes: Bytes) -> Self {
        Self {
            release: Release::whole(adapter),
            adapter: bytes,
            delta: Bytes::new(),
        }
    }

    /// An adapter that is sent whole.
    pub(crate) fn whole(adapter: &Arc<Adapter>, encoding: Encoding) -> Self {
        let bytes = adapter_bytes(adapter, encoding);
        Self::new(Content::of(&bytes), bytes)
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
        let whole = self.adapter.len();
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

    /// Gives the bytes that a transfer of this kind carries.
    pub(crate) fn bytes(&self, kind: TransferKind) -> Bytes {
        if kind.is_delta() {
            self.delta.clone()
        } else {
            self.adapter.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use aggregation::delta;
    use aggregation::{AdapterLayout, ModuleLayout};

    use super::*;

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
            let bytes = released.bytes(TransferKind::GlobalDelta);
            let announced = released.release.delta.unwrap();
            assert_eq!(announced.content, Content::of(&bytes));
            assert_eq!(announced.base, held.release.adapter.sha256);
            let delta = delta::Delta::parse(&bytes).unwrap();
            let rebuilt = delta.rebuild(&held.bytes(TransferKind::GlobalAdapter)[..]);
            let whole = released.bytes(TransferKind::FinalAdapter);
            assert!(rebuilt.unwrap() == whole && bytes.len() < whole.len());
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
