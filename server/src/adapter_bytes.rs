//! An adapter as the bytes in which it is sent, for everybody at once: in its own memory where that is what is sent.

use std::sync::Arc;

use aggregation::{Adapter, Encoding};
use bytes::Bytes;

/// Gives the bytes of an adapter; as exact values on a little-endian machine they are the adapter itself.
pub(crate) fn adapter_bytes(adapter: &Arc<Adapter>, encoding: Encoding) -> Bytes {
    if encoding == Encoding::F32 && cfg!(target_endian = "little") {
        Bytes::from_owner(Values(Arc::clone(adapter)))
    } else {
        Bytes::from(encoding.encode(adapter.values()))
    }
}

/// Keeps an adapter for as long as somebody sends it.
struct Values(Arc<Adapter>);

impl AsRef<[u8]> for Values {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self.0.values())
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
