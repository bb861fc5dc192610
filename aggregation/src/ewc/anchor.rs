//! The anchor file: per module the two vectors of the factored Fisher, and for which base model.
//!
//! A safetensors file with `MODULE.u` `[out]` and `MODULE.v` `[in]` in f32 and the rest in its
//! metadata. It names the base model by fingerprint and is refused for any other.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::layout::{AdapterLayout, MODULES_MAX, ModuleLayout, NAME_BYTES_MAX};
use crate::safetensors_bytes::{self, ContainerError, Source, Tensor};

const FORMAT: &str = "foedus-anchor/1";

/// The factored Fisher of one module: `F_ij = u_i v_j`.
///
/// # Units
/// Per token of the anchor text: `u_i v_j` is the expected squared derivative of one token's
/// log-likelihood.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleFisher {
    /// Importance of each output, `[out]`.
    pub u: Vec<f32>,
    /// Importance of each input, `[in]`.
    pub v: Vec<f32>,
}

/// Importances of the weights of one base model.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchor {
    /// SHA-256 that names the base model.
    pub base_fingerprint: [u8; 32],
    /// Tokens whose log-likelihood was derived.
    pub tokens: u64,
    /// Examples they were in.
    pub examples: u64,
    /// The Fisher by module name.
    pub modules: BTreeMap<String, ModuleFisher>,
}

/// Why a file is no anchor, or not one for this adapter.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AnchorError {
    /// The bytes are not a safetensors file within bounds.
    #[error("the anchor file is not usable: {0}")]
    Container(#[from] ContainerError),
    /// A metadata entry is missing or wrong.
    #[error("the anchor file's metadata entry {key:?} is missing or not {expected}")]
    Metadata {
        /// The entry.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A tensor has a name, shape or type that no anchor has.
    #[error("tensor {tensor:?} of the anchor file {what}")]
    Tensor {
        /// The tensor, its name cut to 64 characters.
        tensor: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The anchor was made for another base model.
    #[error(
        "the anchor was made for base model {found}, this base model is {expected} (E_EWC_ANCHOR_MISMATCH): compute it \
         again with the fisher command"
    )]
    WrongBase {
        /// The anchor's fingerprint in hex.
        found: String,
        /// The base model's fingerprint in hex.
        expected: String,
    },
    /// The adapter adapts a module that the anchor does not know.
    #[error("the anchor has no importances for module {module}")]
    MissingModule {
        /// The module.
        module: String,
    },
    /// A module has other widths in the anchor.
    #[error(
        "module {module} is {found_out} x {found_in} in the anchor, {out} x {in_} in the adapter"
    )]
    WrongShape {
        /// The module.
        module: String,
        /// Outputs in the anchor.
        found_out: usize,
        /// Inputs in the anchor.
        found_in: usize,
        /// Outputs in the adapter.
        out: usize,
        /// Inputs in the adapter.
        in_: usize,
    },
    /// No example was usable.
    #[error("no usable example was seen, so there are no importances ({dropped} not finite)")]
    NoExamples {
        /// Examples dropped because a value was not finite.
        dropped: u64,
    },
}

impl Anchor {
    /// The anchor as the bytes of its file; equal anchors give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let metadata = BTreeMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            (
                "base_fingerprint".to_owned(),
                hex::encode(self.base_fingerprint),
            ),
            ("tokens".to_owned(), self.tokens.to_string()),
            ("examples".to_owned(), self.examples.to_string()),
        ]);
        let mut tensors = BTreeMap::new();
        for (name, fisher) in &self.modules {
            for (part, values) in [("u", &fisher.u), ("v", &fisher.v)] {
                let source = Source {
                    shape: vec![values.len()],
                    values,
                };
                tensors.insert(format!("{name}.{part}"), source);
            }
        }
        safetensors_bytes::write(&metadata, &tensors)
    }

    /// Reads the bytes of an anchor file.
    ///
    /// # Errors
    /// [`AnchorError`] if they are anything but a complete anchor with finite importances that
    /// are not negative.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AnchorError> {
        let container = safetensors_bytes::read(bytes, 2 * MODULES_MAX)?;
        let entry = |key: &'static str, expected| {
            container
                .metadata
                .get(key)
                .ok_or(AnchorError::Metadata { key, expected })
        };
        if entry("format", FORMAT)? != FORMAT {
            return Err(AnchorError::Metadata {
                key: "format",
                expected: FORMAT,
            });
        }
        let number = |key| {
            let refused = AnchorError::Metadata {
                key,
                expected: "a count",
            };
            entry(key, "a count")?.parse().map_err(|_| refused)
        };
        let (key, expected) = ("base_fingerprint", "64 hex digits");
        let mut base_fingerprint = [0; 32];
        hex::decode_to_slice(entry(key, expected)?, &mut base_fingerprint)
            .map_err(|_| AnchorError::Metadata { key, expected })?;
        let (tokens, examples) = (number("tokens")?, number("examples")?);
        let mut modules = BTreeMap::new();
        for (name, tensor) in &container.tensors {
            let Some(module) = name.strip_suffix(".u") else {
                check_partner(name, &container.tensors)?;
                continue;
            };
            let partner = format!("{module}.v");
            let v = container.tensors.get(&partner);
            let v = v.ok_or_else(|| wrong(name, "has no partner with .v"))?;
            let fisher = ModuleFisher {
                u: importances(name, tensor)?,
                v: importances(&partner, v)?,
            };
            modules.insert(module.to_owned(), fisher);
        }
        if modules.is_empty() {
            return Err(AnchorError::NoExamples { dropped: 0 });
        }
        Ok(Self {
            base_fingerprint,
            tokens,
            examples,
            modules,
        })
    }

    /// SHA-256 of [`Self::to_bytes`], by which a run plan names the anchor.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// Checks that the anchor is for this base model and knows every module of the layout.
    ///
    /// # Errors
    /// [`AnchorError::WrongBase`], [`AnchorError::MissingModule`] or [`AnchorError::WrongShape`].
    pub fn bind(
        &self,
        layout: &Arc<AdapterLayout>,
        base_fingerprint: &[u8; 32],
    ) -> Result<BoundAnchor, AnchorError> {
        if &self.base_fingerprint != base_fingerprint {
            let found = hex::encode(self.base_fingerprint);
            let expected = hex::encode(base_fingerprint);
            return Err(AnchorError::WrongBase { found, expected });
        }
        let modules = layout.modules().iter().map(|module| self.of_module(module));
        Ok(BoundAnchor {
            layout: Arc::clone(layout),
            modules: modules.collect::<Result<Vec<_>, _>>()?,
        })
    }

    fn of_module(&self, module: &ModuleLayout) -> Result<ModuleFisher, AnchorError> {
        let fisher = self.modules.get(&module.name);
        let fisher = fisher.ok_or_else(|| AnchorError::MissingModule {
            module: module.name.clone(),
        })?;
        if (fisher.u.len(), fisher.v.len()) != (module.out_features, module.in_features) {
            return Err(AnchorError::WrongShape {
                module: module.name.clone(),
                found_out: fisher.u.len(),
                found_in: fisher.v.len(),
                out: module.out_features,
                in_: module.in_features,
            });
        }
        Ok(fisher.clone())
    }
}

/// An anchor checked against the layout of the adapters it will pull back.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundAnchor {
    layout: Arc<AdapterLayout>,
    modules: Vec<ModuleFisher>,
}

impl BoundAnchor {
    /// The layout it was checked against.
    pub fn layout(&self) -> &Arc<AdapterLayout> {
        &self.layout
    }

    /// The Fisher of the module at this index of the layout.
    pub fn module(&self, module: usize) -> &ModuleFisher {
        &self.modules[module]
    }

    /// SHA-256 over the layout and all importances: equal digests pull alike.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.layout.digest());
        for module in &self.modules {
            for value in module.u.iter().chain(&module.v) {
                hash.update(value.to_le_bytes());
            }
        }
        hash.finalize().into()
    }

    /// Guards every use: an adapter of another layout is a mistake of the caller.
    pub(crate) fn assert_fits(&self, layout: &Arc<AdapterLayout>) {
        let same = Arc::ptr_eq(&self.layout, layout) || &self.layout == layout;
        assert!(
            same,
            "the anchor was bound to another layout than the adapter's"
        );
    }
}

fn check_partner(name: &str, tensors: &BTreeMap<String, Tensor<'_>>) -> Result<(), AnchorError> {
    let Some(module) = name.strip_suffix(".v") else {
        return Err(wrong(name, "is named neither MODULE.u nor MODULE.v"));
    };
    if tensors.contains_key(&format!("{module}.u")) {
        return Ok(());
    }
    Err(wrong(name, "has no partner with .u"))
}

fn importances(name: &str, tensor: &Tensor<'_>) -> Result<Vec<f32>, AnchorError> {
    if name.len() > NAME_BYTES_MAX + 2 {
        return Err(wrong(name, "has too long a name"));
    }
    if tensor.shape().len() != 1 || tensor.shape()[0] == 0 {
        return Err(wrong(name, "is not a vector"));
    }
    let values = tensor
        .to_f32()
        .ok_or_else(|| wrong(name, "is not f32, f16 or bf16"))?;
    if values
        .iter()
        .any(|value| !value.is_finite() || *value < 0.0)
    {
        return Err(wrong(name, "has a value that is negative or not finite"));
    }
    Ok(values)
}

fn wrong(tensor: &str, what: &'static str) -> AnchorError {
    AnchorError::Tensor {
        tensor: tensor.chars().take(64).collect(),
        what,
    }
}

#[cfg(test)]
mod tests;
