//! What a participant reports beside its update.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers about the training of one round. Every field is optional: the site decides what leaves.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Metrics {
    /// Mean training loss of the round, in nats per response token. Never NaN or infinite: what is not finite
    /// is sent as absent, and refused when it arrives.
    #[serde(serialize_with = "write_finite", deserialize_with = "read_finite")]
    pub train_loss: Option<f32>,
}

fn write_finite<S: Serializer>(value: &Option<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    value
        .filter(|value| value.is_finite())
        .serialize(serializer)
}

fn read_finite<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    let value = Option::<f32>::deserialize(deserializer)?;
    match value {
        Some(number) if !number.is_finite() => {
            Err(serde::de::Error::custom("a metric is not finite"))
        }
        value => Ok(value),
    }
}
