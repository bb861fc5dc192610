//! Adapters as the two files of Hugging Face PEFT, as bytes: the caller reads and writes files.
//!
//! `adapter_config.json` and `adapter_model.safetensors` as PEFT's `LoraConfig` and
//! `save_pretrained` write them, so that PEFT, transformers and vLLM load ours and we load theirs.
//! What would change the meaning of the numbers and is not supported (`DoRA`, biases, ranks by module,
//! initialisations that change the base) is refused with a sentence, never ignored. Beside them lies
//! our own `foedus.json`, which names the base model by fingerprint.

mod config;
mod names;
mod sidecar;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use config::PeftConfig;
pub use sidecar::Sidecar;

use crate::adapter::Adapter;
use crate::encoding::le_bytes;
use crate::error::AdapterError;
use crate::layout::{AdapterLayout, Factor, MODULES_MAX, ModuleLayout};
use crate::safetensors_bytes::{self, ContainerError, Source, Tensor};
use names::Place;

/// The two files of a PEFT folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeftFolder {
    /// The bytes of `adapter_config.json`.
    pub config_json: Vec<u8>,
    /// The bytes of `adapter_model.safetensors`.
    pub safetensors: Vec<u8>,
}

/// The same two files, their tensors still where the adapter has them.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftPieces<'a> {
    /// The bytes of `adapter_config.json`.
    pub config_json: Vec<u8>,
    /// What `adapter_model.safetensors` begins with.
    pub head: Vec<u8>,
    /// The tensors that follow, to be written as [little-endian bytes](crate::encoding::le_bytes).
    pub tensors: Vec<&'a [f32]>,
}

/// Why files are not an adapter that can be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PeftError {
    /// A JSON file is larger than it can sensibly be.
    #[error("{file} has {found} bytes, more than {limit}")]
    JsonSize {
        /// Which file.
        file: &'static str,
        /// Its size.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A JSON file is not JSON or lacks a key.
    #[error("{file} is not usable: {what}")]
    Json {
        /// Which file.
        file: &'static str,
        /// What the reader found wrong, with line and column.
        what: String,
    },
    /// The configuration asks for something that is not supported.
    #[error("adapter_config.json has {key} = {found}: {why}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Its value, cut to 64 characters.
        found: String,
        /// Why it is refused and what to do.
        why: &'static str,
    },
    /// The safetensors file cannot be read.
    #[error("adapter_model.safetensors is not usable: {0}")]
    Container(#[from] ContainerError),
    /// A tensor is not a LoRA factor of a module that is known.
    #[error("adapter_model.safetensors has tensor {tensor:?}, which {why}")]
    Tensor {
        /// The tensor, its name cut to 128 characters.
        tensor: String,
        /// What is wrong with it.
        why: String,
    },
    /// One factor is there and the other is not.
    #[error("adapter_model.safetensors has only one factor of {module}: {missing} is missing")]
    MissingPartner {
        /// The module.
        module: String,
        /// The factor that is missing.
        missing: Factor,
    },
    /// A module listed in the configuration has no tensors.
    #[error("adapter_config.json targets {module}, but no tensor of it is there")]
    MissingTarget {
        /// The target as listed.
        module: String,
    },
    /// The tensors together are not a possible adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
}

/// Writes an adapter as the two files of PEFT; equal adapters give equal bytes.
///
/// # Units
/// `dropout` is the probability used in training; it does not change the adapter's effect.
pub fn save(adapter: &Adapter, base_name: &str, dropout: f64) -> PeftFolder {
    let PeftPieces {
        config_json,
        head,
        tensors,
    } = pieces(adapter, base_name, dropout);
    let mut safetensors = head;
    safetensors.reserve_exact(size_of_val(adapter.values()));
    for tensor in tensors {
        safetensors.extend_from_slice(&le_bytes(tensor));
    }
    PeftFolder {
        config_json,
        safetensors,
    }
}

/// Gives the two files of PEFT in pieces, for a caller that writes them without a copy in memory.
///
/// # Units
/// As for [`save`].
pub fn pieces<'a>(adapter: &'a Adapter, base_name: &str, dropout: f64) -> PeftPieces<'a> {
    let layout = adapter.layout();
    let rank = layout.rank();
    let mut tensors = BTreeMap::new();
    for (index, module) in layout.modules().iter().enumerate() {
        let a = Source {
            shape: vec![rank, module.in_features],
            values: adapter.a(index),
        };
        let b = Source {
            shape: vec![module.out_features, rank],
            values: adapter.b(index),
        };
        tensors.insert(names::tensor_name(&module.name, Factor::A), a);
        tensors.insert(names::tensor_name(&module.name, Factor::B), b);
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    PeftPieces {
        config_json: config::to_json(layout, base_name, dropout),
        head: safetensors_bytes::head(&metadata, &tensors),
        tensors: tensors.into_values().map(|tensor| tensor.values).collect(),
    }
}

/// Reads an adapter from the two files of PEFT.
///
/// Modules come in canonical order whatever the order in the file: by layer number, then q, k, v,
/// o, gate, up, down. Tensors may be f32, f16 or bf16; values become f32.
///
/// # Errors
/// [`PeftError`] naming the file, the key or the tensor. Sizes are checked before anything of that
/// size is allocated.
pub fn load(config_json: &[u8], safetensors: &[u8]) -> Result<(Adapter, PeftConfig), PeftError> {
    let config = PeftConfig::from_json(config_json)?;
    let container = safetensors_bytes::read(safetensors, 2 * MODULES_MAX)?;
    let pairs = pair_up(&container.tensors, &config)?;
    let mut modules = Vec::with_capacity(pairs.len());
    for pair in pairs.values() {
        modules.push(pair.module(config.rank)?);
    }
    check_targets(&config, &modules)?;
    let layout = AdapterLayout::new(config.rank, config.alpha, config.rslora, modules)?;
    let mut values = Vec::with_capacity(layout.parameters());
    for pair in pairs.values() {
        values.extend(pair.a.values()?);
        values.extend(pair.b.values()?);
    }
    Ok((Adapter::from_values(Arc::new(layout), values)?, config))
}

/// A tensor with the name it has in the file.
#[derive(Clone, Copy)]
struct Named<'a> {
    name: &'a str,
    tensor: &'a Tensor<'a>,
}

impl Named<'_> {
    /// The two dimensions.
    fn shape(&self) -> Result<[usize; 2], PeftError> {
        self.tensor
            .shape()
            .try_into()
            .map_err(|_| refused(self.name, "is not a matrix"))
    }

    fn values(&self) -> Result<Vec<f32>, PeftError> {
        self.tensor
            .to_f32()
            .ok_or_else(|| refused(self.name, "is not f32, f16 or bf16"))
    }
}

/// Both factors of one module.
struct Pair<'a> {
    module: String,
    a: Named<'a>,
    b: Named<'a>,
}

impl Pair<'_> {
    fn module(&self, rank: usize) -> Result<ModuleLayout, PeftError> {
        let ([rank_a, in_features], [out_features, rank_b]) = (self.a.shape()?, self.b.shape()?);
        for (named, found) in [(self.a, rank_a), (self.b, rank_b)] {
            if found != rank {
                let why = format!("has rank {found} where adapter_config.json says {rank}");
                return Err(refused(named.name, &why));
            }
        }
        Ok(ModuleLayout {
            name: self.module.clone(),
            in_features,
            out_features,
        })
    }
}

fn pair_up<'a>(
    tensors: &'a BTreeMap<String, Tensor<'a>>,
    config: &PeftConfig,
) -> Result<BTreeMap<Place, Pair<'a>>, PeftError> {
    let mut halves: BTreeMap<Place, [Option<Named<'a>>; 2]> = BTreeMap::new();
    for (name, tensor) in tensors {
        let (place, factor) = names::parse(name).map_err(|why| refused(name, why))?;
        if !config
            .target_modules
            .iter()
            .any(|target| names::is_target(target, &place))
        {
            return Err(refused(
                name,
                "is not among target_modules of adapter_config.json",
            ));
        }
        let half = Named { name, tensor };
        halves.entry(place).or_default()[usize::from(factor == Factor::B)] = Some(half);
    }
    let mut pairs = BTreeMap::new();
    for (place, halves) in halves {
        let module = place.module_name();
        let [Some(a), Some(b)] = halves else {
            let missing = if halves[0].is_none() {
                Factor::A
            } else {
                Factor::B
            };
            return Err(PeftError::MissingPartner { module, missing });
        };
        pairs.insert(place, Pair { module, a, b });
    }
    Ok(pairs)
}

fn check_targets(config: &PeftConfig, modules: &[ModuleLayout]) -> Result<(), PeftError> {
    let present = |target: &str| {
        modules
            .iter()
            .any(|module| module.name.rsplit('.').next() == target.rsplit('.').next())
    };
    match config.target_modules.iter().find(|target| !present(target)) {
        Some(module) => Err(PeftError::MissingTarget {
            module: module.clone(),
        }),
        None => Ok(()),
    }
}

fn refused(tensor: &str, why: &str) -> PeftError {
    PeftError::Tensor {
        tensor: tensor.chars().take(128).collect(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests;
