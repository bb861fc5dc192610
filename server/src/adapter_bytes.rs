//! An adapter as the bytes in which it is sent, for everybody at once: in its own memory where that is what is sent.

use std::sync::Arc;

use aggregation::adapter::LeBytes;
use aggregation::{Adapter, Encoding};
use bytes::Bytes;

/// Gives the bytes of an adapter; as exact values they are its own memory, where that is possible.
pub(crate) fn adapter_bytes(adapter: &Arc<Adapter>, encoding: Encoding) -> Bytes {
    match LeBytes::of(adapter) {
        Some(values) if encoding == Encoding::F32 => Bytes::from_owner(values),
        _ => Bytes::from(encoding.encode(adapter.values())),
    }
}

#[cfg(test)]
mod tests {
    use aggregation::{AdapterLayout, ModuleLayout};

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_encoding_and_outlive_the_adapter() {
        let modules = vec![ModuleLayout {
            name: "model.layers.0.self_attn.q_proj".to_owned(),
            in_features: 3,
            out_features: 2,
        }];
        let layout = Arc::new(AdapterLayout::new(2, 4.0, false, modules).unwrap());
        for encoding in [Encoding::F32, Encoding::Bf16] {
            let adapter = Arc::new(Adapter::initial(Arc::clone(&layout), 5));
            let expected = encoding.encode(adapter.values());
            let bytes = adapter_bytes(&adapter, encoding);
            drop(adapter);
            assert_eq!(bytes, expected);
        }
    }
}
