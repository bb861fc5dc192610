//! An adapter as the bytes in which it is sent, for everybody at once: in its own memory where that is what is sent, and otherwise
//! encoded when somebody is to be sent it and kept for as long as anybody is.
//!
//! So while a round's updates arrive, and everybody has the adapter that they start from, it is in memory once. Who comes back late
//! has it encoded again, to the same bytes.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use aggregation::adapter::LeBytes;
use aggregation::{Adapter, Encoding};
use bytes::Bytes;

/// The bytes of an adapter in one encoding.
#[derive(Debug)]
pub(crate) struct AdapterBytes {
    adapter: Arc<Adapter>,
    encoding: Encoding,
    /// What somebody is being sent.
    encoded: Mutex<Weak<Vec<u8>>>,
}

impl AdapterBytes {
    pub(crate) fn new(adapter: &Arc<Adapter>, encoding: Encoding) -> Self {
        Self {
            adapter: Arc::clone(adapter),
            encoding,
            encoded: Mutex::default(),
        }
    }

    /// Gives the bytes, the same memory to everybody. Encodes, so not for an event loop.
    pub(crate) fn get(&self) -> Bytes {
        if let Some(values) = self.exact() {
            return values;
        }
        let mut encoded = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = encoded
            .upgrade()
            .unwrap_or_else(|| Arc::new(self.encoding.encode(self.adapter.values())));
        *encoded = Arc::downgrade(&bytes);
        Bytes::from_owner(Held(bytes))
    }

    /// Gives the bytes if they are there.
    pub(crate) fn held(&self) -> Option<Bytes> {
        self.exact().or_else(|| {
            let encoded = self.encoded.try_lock().ok()?;
            Some(Bytes::from_owner(Held(encoded.upgrade()?)))
        })
    }

    /// The adapter's own memory, if that is what is sent.
    fn exact(&self) -> Option<Bytes> {
        let values = LeBytes::of(&self.adapter).filter(|_| self.encoding == Encoding::F32);
        values.map(Bytes::from_owner)
    }
}

/// Bytes that are there while anybody holds them.
struct Held(Arc<Vec<u8>>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use aggregation::{AdapterLayout, ModuleLayout};

    use super::*;

    fn adapter() -> Arc<Adapter> {
        let modules = vec![ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: 3,
            out_features: 2,
        }];
        let layout = Arc::new(AdapterLayout::new(2, 4.0, false, modules).unwrap());
        Arc::new(Adapter::initial(layout, 5))
    }

    #[test]
    fn the_bytes_are_those_of_the_encoding_and_outlive_the_adapter() {
        for encoding in [Encoding::F32, Encoding::Bf16] {
            let adapter = adapter();
            let expected = encoding.encode(adapter.values());
            let bytes = AdapterBytes::new(&adapter, encoding).get();
            drop(adapter);
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn everybody_is_sent_the_same_memory_and_nothing_is_kept_for_nobody() {
        let rounded = AdapterBytes::new(&adapter(), Encoding::Bf16);
        assert_eq!(rounded.held(), None);
        let (one, other) = (rounded.get(), rounded.get());
        assert_eq!(one.as_ptr(), other.as_ptr());
        drop(one);
        assert_eq!(
            rounded.held().map(|held| held.as_ptr()),
            Some(other.as_ptr())
        );
        drop(other);
        assert_eq!(rounded.held(), None);
        assert_eq!(rounded.get(), Encoding::Bf16.encode(adapter().values()));
        let exact = AdapterBytes::new(&adapter(), Encoding::F32);
        assert_eq!(exact.held(), Some(exact.get()));
    }
}
