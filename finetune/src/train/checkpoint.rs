//! A training between two steps, as bytes: what is needed to go on as if nothing had happened.
//!
//! Adapter, moments, step, what is counted of a stretch of steps, and the state of early stopping. Data order, dropout masks and learning rate follow from the
//! seed and the step, so no generator's state is kept. A checkpoint names the training that it belongs to (base model,
//! data, recipe, seed, anchor) and is refused by any other. A safetensors file with a SHA-256 over its tensors; reading
//! and writing files is the caller's.

use std::collections::{BTreeMap, HashMap};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest as _, Sha256};

use super::{early_stopping::EarlyStopping, stretch::Tally};

const FORMAT: &str = "foedus-checkpoint/1";

/// What makes two trainings the same: named facts, the recipe's fields among them.
pub(super) type Identity = BTreeMap<String, String>;

/// The fact that a private training's noise goes by.
pub(super) const NOISE_MULTIPLIER: &str = "noise multiplier";

/// The state of a training.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checkpoint {
    pub(super) identity: Identity,
    /// Steps taken.
    pub(super) step: u64,
    /// Steps that the optimizer has counted.
    pub(super) optimizer_steps: u64,
    pub(super) adapter: Vec<f32>,
    /// Adam's running means; empty before the first step.
    pub(super) mean: Vec<f32>,
    pub(super) square: Vec<f32>,
    pub(super) stopping: Option<EarlyStopping>,
    /// The adapter of the best evaluation; empty if there is none.
    pub(super) best: Vec<f32>,
    /// What was counted of the steps that it is in the midst of, if it is.
    pub(super) stretch: Option<Tally>,
}

/// A checkpoint that cannot be gone on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes are no checkpoint, or were damaged.
    #[error("it is no usable checkpoint: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// It belongs to another training.
    #[error("it belongs to another training: its {what} is {found}, here it is {expected}")]
    Other {
        /// What differs.
        what: String,
        /// In the checkpoint.
        found: String,
        /// In this training.
        expected: String,
    },
}

impl Checkpoint {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let tensors = [
            ("adapter", &self.adapter),
            ("best", &self.best),
            ("mean", &self.mean),
            ("square", &self.square),
        ]
        .map(|(name, values)| (name, le_bytes(values)));
        let metadata = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("identity".to_owned(), json(&self.identity)),
            ("step".to_owned(), self.step.to_string()),
            (
                "optimizer_steps".to_owned(),
                self.optimizer_steps.to_string(),
            ),
            ("stopping".to_owned(), json(&self.stopping)),
            ("stretch".to_owned(), json(&self.stretch)),
            ("sha256".to_owned(), digest(&tensors)),
        ]);
        let views = tensors.iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes);
            (*name, view.expect("the bytes are whole f32 values"))
        });
        safetensors::serialize(views, Some(metadata)).expect("names and shapes are our own")
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let empty = HashMap::new();
        let metadata = header.metadata().as_ref().unwrap_or(&empty);
        let entry = |key: &str| {
            let missing = || damaged(format!("it has no entry {key:?}"));
            metadata.get(key).ok_or_else(missing)
        };
        if entry("format")? != FORMAT {
            return Err(damaged(format!("it is not of the format {FORMAT}")));
        }
        let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let tensor = |name: &'static str| -> Result<_, CheckpointError> {
            let view = file.tensor(name).map_err(damaged)?;
            if view.dtype() != Dtype::F32 {
                return Err(damaged(format!("tensor {name:?} is not f32")));
            }
            Ok((name, view.data().to_vec()))
        };
        let tensors = [
            tensor("adapter")?,
            tensor("best")?,
            tensor("mean")?,
            tensor("square")?,
        ];
        if *entry("sha256")? != digest(&tensors) {
            return Err(damaged("its bytes are not those that were written"));
        }
        let [adapter, best, mean, square] = tensors.map(|(_, bytes)| values(&bytes));
        Ok(Self {
            identity: serde_json::from_str(entry("identity")?).map_err(damaged)?,
            step: entry("step")?.parse().map_err(damaged)?,
            optimizer_steps: entry("optimizer_steps")?.parse().map_err(damaged)?,
            adapter,
            mean,
            square,
            stopping: serde_json::from_str(entry("stopping")?).map_err(damaged)?,
            best,
            stretch: serde_json::from_str(entry("stretch")?).map_err(damaged)?,
        })
    }

    /// Refuses the checkpoint of another training, and names the first difference.
    pub(super) fn check(&self, expected: &Identity) -> Result<(), CheckpointError> {
        let keys: std::collections::BTreeSet<&String> =
            self.identity.keys().chain(expected.keys()).collect();
        for key in keys {
            let (found, wanted) = (self.identity.get(key), expected.get(key));
            if found != wanted {
                let text = |value: Option<&String>| {
                    value.map_or_else(|| "absent".to_owned(), Clone::clone)
                };
                return Err(CheckpointError::Other {
                    what: key.clone(),
                    found: text(found),
                    expected: text(wanted),
                });
            }
        }
        Ok(())
    }
}

fn damaged(what: impl ToString) -> CheckpointError {
    CheckpointError::Damaged {
        what: what.to_string(),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain values have a JSON form")
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn values(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    values
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}

fn digest(tensors: &[(&str, Vec<u8>)]) -> String {
    let mut hash = Sha256::new();
    for (name, bytes) in tensors {
        hash.update(name.as_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::early_stopping::Patience;

    fn checkpoint() -> Checkpoint {
        let mut stopping = EarlyStopping::new(Patience { evaluations: 3 });
        stopping.judge(4, 0.1 + 0.2);
        Checkpoint {
            identity: Identity::from([("seed".to_owned(), "7".to_owned())]),
            step: 9,
            optimizer_steps: 9,
            adapter: vec![1.0, -0.0, f32::MIN_POSITIVE],
            mean: vec![0.5; 3],
            square: vec![0.25; 3],
            stopping: Some(stopping),
            best: vec![],
            stretch: None,
        }
    }

    #[test]
    fn bytes_are_read_back_exactly() {
        let written = checkpoint();
        let read = Checkpoint::from_bytes(&written.to_bytes()).unwrap();
        assert_eq!(read, written);
        assert_eq!(read.adapter[1].to_bits(), (-0.0_f32).to_bits());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_refused_or_read_the_same() {
        let bytes = checkpoint().to_bytes();
        for end in 0..bytes.len() {
            assert!(
                Checkpoint::from_bytes(&bytes[..end]).is_err(),
                "cut at {end}"
            );
        }
        let mut refused = 0;
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            match Checkpoint::from_bytes(&flipped) {
                Err(_) => refused += 1,
                // A digit of the header may change; the values never do.
                Ok(read) => assert_eq!(read.adapter, checkpoint().adapter, "flipped at {place}"),
            }
        }
        assert!(refused > bytes.len() / 2);
    }

    #[test]
    fn other_training_is_refused_by_what_differs() {
        let expected = Identity::from([("seed".to_owned(), "8".to_owned())]);
        let refused = checkpoint().check(&expected).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "it belongs to another training: its seed is 7, here it is 8"
        );
        let none = checkpoint().check(&Identity::new()).unwrap_err();
        assert!(none.to_string().ends_with("here it is absent"), "{none}");
        assert_eq!(checkpoint().check(&checkpoint().identity), Ok(()));
    }
}
