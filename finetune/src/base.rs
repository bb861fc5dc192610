//! A base model on disk: what it is, and its way onto a device.

use crate::config::LlamaConfig;
use crate::error::LoadError;
use crate::gguf::GgufFile;
use crate::lora::LoraConfig;
use crate::model::Llama;
use crate::precision::BasePrecision;
use crate::tokenizer::Tokenizer;
use crate::weights::{SafetensorsFolder, WeightSource};
use aggregation::AdapterLayout;
use burn::tensor::Device;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

mod fingerprint;
mod name;
#[cfg(test)]
mod tests;

/// A base model's files, opened but not loaded: enough to know it, to tokenize, and to lay out adapters.
pub struct BaseFiles {
    /// The shape of the decoder.
    pub config: LlamaConfig,
    /// The tokenizer, with the chat template.
    pub tokenizer: Tokenizer,
    /// For people, and what PEFT's files name as the base: the repository's name in the hub's cache, else the file's or folder's.
    pub name: String,
    /// What makes two base models the same: SHA-256 of the GGUF file; of a folder over `config.json`, the weights that are loaded, tokenizer
    /// and chat template.
    pub fingerprint: [u8; 32],
    path: PathBuf,
    weights: Box<dyn WeightSource + Send + Sync>,
}

/// A base model on a device.
pub struct BaseModel {
    /// The decoder.
    pub llama: Arc<Llama>,
    /// The tokenizer, with the chat template.
    pub tokenizer: Tokenizer,
    /// As in [`BaseFiles`].
    pub name: String,
    /// As in [`BaseFiles`].
    pub fingerprint: [u8; 32],
    path: PathBuf,
}

/// How far the opening of a large model has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashProgress {
    /// Bytes hashed.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Files that can be a base model's, as far as that is seen without reading the weights.
struct Opened {
    weights: Box<dyn WeightSource + Send + Sync>,
    tokenizer: Tokenizer,
    /// What the fingerprint of a folder is over; none for a GGUF file.
    files: Option<Vec<PathBuf>>,
}

impl Opened {
    fn open(path: &Path) -> Result<Self, LoadError> {
        let about = std::fs::metadata(path).map_err(|e| LoadError::io("open", path, e))?;
        let opened = if about.is_dir() {
            let weights = SafetensorsFolder::open(path)?;
            Self {
                tokenizer: Tokenizer::from_folder(path)?,
                files: Some(weights.files()),
                weights: Box::new(weights),
            }
        } else {
            let weights = GgufFile::open(path)?;
            Self {
                tokenizer: Tokenizer::from_gguf(weights.header(), path)?,
                files: None,
                weights: Box::new(weights),
            }
        };
        let (found, limit) = (
            opened.tokenizer.vocab_size(),
            opened.weights.config().vocab_size,
        );
        if found > limit {
            let what = format!("it has {found} tokens, but the model's embedding only {limit}");
            return Err(LoadError::tokenizer(path, what));
        }
        Ok(opened)
    }
}

impl BaseFiles {
    /// Opens a Hugging Face folder or a `.gguf` file.
    ///
    /// # Errors
    /// [`LoadError`] with the file.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        Self::open_observed(path, &mut |_| ())
    }

    /// As [`Self::open`], and reports how far the fingerprint has come: it reads every byte of the weights.
    ///
    /// # Errors
    /// [`LoadError`] with the file.
    pub fn open_observed(
        path: &Path,
        observe: &mut dyn FnMut(HashProgress),
    ) -> Result<Self, LoadError> {
        let Opened {
            weights,
            tokenizer,
            files,
        } = Opened::open(path)?;
        let absolute = std::path::absolute(path).map_err(|e| LoadError::io("open", path, e))?;
        let fingerprint = match &files {
            Some(files) => fingerprint::of_folder(files, tokenizer.digest(), observe)?,
            None => fingerprint::of_file(path, observe)?,
        };
        Ok(Self {
            config: weights.config().clone(),
            tokenizer,
            name: name::of(&absolute, files.is_some()),
            fingerprint,
            path: path.to_owned(),
            weights,
        })
    }

    /// Opens the files as [`Self::open`] does, reads nothing of the weights but where they are, and gives the tokenizer.
    ///
    /// # Errors
    /// [`LoadError`] with the file.
    pub fn inspect(path: &Path) -> Result<Tokenizer, LoadError> {
        Ok(Opened::open(path)?.tokenizer)
    }

    /// Brings the weights to a device.
    ///
    /// # Errors
    /// [`LoadError`] with the tensor.
    pub fn load(self, device: &Device, precision: BasePrecision) -> Result<BaseModel, LoadError> {
        let llama = Llama::from_weights(&*self.weights, device, precision)?;
        Ok(BaseModel {
            llama: Arc::new(llama),
            tokenizer: self.tokenizer,
            name: self.name,
            fingerprint: self.fingerprint,
            path: self.path,
        })
    }

    /// Lays an adapter out for this model.
    ///
    /// # Errors
    /// [`LoadError::Layout`] if the LoRA configuration makes no adapter.
    pub fn adapter_layout(&self, lora: &LoraConfig) -> Result<AdapterLayout, LoadError> {
        layout(lora, &self.config, &self.path)
    }
}

impl BaseModel {
    /// Opens a Hugging Face folder or a `.gguf` file and brings its weights to a device in the usual precision.
    ///
    /// # Errors
    /// [`LoadError`] with the file and tensor.
    pub fn open(path: &Path, device: &Device) -> Result<Self, LoadError> {
        BaseFiles::open(path)?.load(device, BasePrecision::Auto)
    }

    /// Lays an adapter out for this model.
    ///
    /// # Errors
    /// [`LoadError::Layout`] if the LoRA configuration makes no adapter.
    pub fn adapter_layout(&self, lora: &LoraConfig) -> Result<AdapterLayout, LoadError> {
        layout(lora, self.llama.config(), &self.path)
    }
}

fn layout(
    lora: &LoraConfig,
    config: &LlamaConfig,
    path: &Path,
) -> Result<AdapterLayout, LoadError> {
    lora.layout(config).map_err(|reason| LoadError::Layout {
        path: path.to_owned(),
        reason,
    })
}

impl std::fmt::Debug for BaseFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseFiles")
            .field("name", &self.name)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for BaseModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BaseModel")
            .field("name", &self.name)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
