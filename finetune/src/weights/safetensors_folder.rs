//! A Hugging Face folder: `config.json` beside one `model.safetensors` or the shards of an index.

use super::WeightSource;
use crate::config::LlamaConfig;
use crate::error::LoadError;
use crate::mapped_file::MappedFile;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// As in the safetensors crate: a longer header is hostile.
const HEADER_BYTES_MAX: usize = 100_000_000;
/// More than any configuration or index of a known model.
const JSON_BYTES_MAX: u64 = 64 << 20;

/// An opened folder; its shards are mapped, not read.
#[derive(Debug)]
pub struct SafetensorsFolder {
    config: LlamaConfig,
    path: PathBuf,
    shards: Vec<Shard>,
    /// Tensor name to shard.
    places: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    file: MappedFile,
    metadata: Metadata,
    data_start: usize,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl SafetensorsFolder {
    /// Opens `config.json` and maps every shard.
    ///
    /// # Errors
    /// [`LoadError`] with the file and, where one is to blame, the tensor.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let config_path = path.join("config.json");
        let config = LlamaConfig::from_json(&read_json_text(&config_path)?, &config_path)?;
        let mut shards = Vec::new();
        let mut places = BTreeMap::new();
        for file in shard_paths(path)? {
            let shard = Shard::open(&file)?;
            for name in shard.metadata.offset_keys() {
                if places.insert(name.clone(), shards.len()).is_some() {
                    return Err(LoadError::damaged(
                        path,
                        format!(
                            "tensor {name} is in two shards, one of them {}",
                            file.display()
                        ),
                    ));
                }
            }
            shards.push(shard);
        }
        Ok(Self {
            config: tied_if_alone(config, &places),
            path: path.to_owned(),
            shards,
            places,
        })
    }

    /// Every file that the model is made of: `config.json` and the shards.
    pub fn files(&self) -> Vec<PathBuf> {
        let shards = self.shards.iter().map(|shard| shard.file.path().to_owned());
        std::iter::once(self.path.join("config.json"))
            .chain(shards)
            .collect()
    }
}

/// Some checkpoints leave `lm_head.weight` out because it is tied, and rely on a default to say so.
fn tied_if_alone(mut config: LlamaConfig, places: &BTreeMap<String, usize>) -> LlamaConfig {
    if !places.contains_key("lm_head.weight") {
        config.tie_word_embeddings = true;
    }
    config
}

/// Reads a text file that must not be large.
pub(crate) fn read_json_text(path: &Path) -> Result<String, LoadError> {
    let bytes = std::fs::metadata(path)
        .map_err(|e| LoadError::io("open", path, e))?
        .len();
    if bytes > JSON_BYTES_MAX {
        return Err(LoadError::damaged(
            path,
            format!("{bytes} bytes are too many for its kind"),
        ));
    }
    std::fs::read_to_string(path).map_err(|e| LoadError::io("read", path, e))
}

fn shard_paths(folder: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let single = folder.join("model.safetensors");
    let index_path = folder.join("model.safetensors.index.json");
    if index_path.exists() {
        let index: Index = serde_json::from_str(&read_json_text(&index_path)?)
            .map_err(|e| LoadError::damaged(&index_path, format!("not a shard index: {e}")))?;
        let names: BTreeSet<String> = index.weight_map.into_values().collect();
        let foreign = names
            .iter()
            .find(|name| Path::new(name).file_name() != Some(name.as_ref()));
        if let Some(name) = foreign {
            return Err(LoadError::damaged(
                index_path,
                format!("shard {name:?} is not a plain file name"),
            ));
        }
        return Ok(names.into_iter().map(|name| folder.join(name)).collect());
    }
    if single.exists() {
        return Ok(vec![single]);
    }
    Err(LoadError::unsupported(
        folder,
        "it holds neither model.safetensors nor model.safetensors.index.json; \
         convert the checkpoint to safetensors",
    ))
}

impl Shard {
    fn open(path: &Path) -> Result<Self, LoadError> {
        let file = MappedFile::open(path)?;
        let (metadata, data_start) = read_header(file.bytes(), path)?;
        Ok(Self {
            file,
            metadata,
            data_start,
        })
    }
}

/// Reads and checks the header: afterwards every tensor lies inside `bytes`.
fn read_header(bytes: &[u8], path: &Path) -> Result<(Metadata, usize), LoadError> {
    let truncated = || {
        LoadError::damaged(
            path,
            format!("it ends in its header, after {} bytes", bytes.len()),
        )
    };
    let (prefix, rest) = bytes.split_first_chunk::<8>().ok_or_else(truncated)?;
    let header_bytes = usize::try_from(u64::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(LoadError::damaged(
            path,
            "its first 8 bytes are not a header length",
        ));
    }
    let header = rest.get(..header_bytes).ok_or_else(truncated)?;
    let metadata: Metadata = serde_json::from_slice(header)
        .map_err(|e| LoadError::damaged(path, format!("its header is invalid: {e}")))?;
    let data_bytes = rest.len() - header_bytes;
    if metadata.data_len() > data_bytes {
        let name = metadata
            .offset_keys()
            .into_iter()
            .find(|name| {
                metadata
                    .info(name)
                    .is_some_and(|info| info.data_offsets.1 > data_bytes)
            })
            .unwrap_or_default();
        return Err(LoadError::damaged(
            path,
            format!(
                "it is truncated in tensor {name}: {data_bytes} of {} tensor bytes are there",
                metadata.data_len()
            ),
        ));
    }
    if metadata.data_len() < data_bytes {
        return Err(LoadError::damaged(
            path,
            format!(
                "{} bytes follow its last tensor",
                data_bytes - metadata.data_len()
            ),
        ));
    }
    Ok((metadata, 8 + header_bytes))
}

/// Widens little-endian elements to f32.
fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F32 => Some(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
        ),
        Dtype::F16 => Some(pairs().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
        Dtype::BF16 => Some(pairs().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
        _ => None,
    }
}

impl WeightSource for SafetensorsFolder {
    fn config(&self) -> &LlamaConfig {
        &self.config
    }

    fn contains(&self, hf_name: &str) -> bool {
        self.places.contains_key(hf_name)
    }

    fn tensor(&self, hf_name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let missing = || LoadError::MissingTensor {
            path: self.path.clone(),
            name: hf_name.to_owned(),
        };
        let shard = &self.shards[*self.places.get(hf_name).ok_or_else(missing)?];
        let info = shard.metadata.info(hf_name).ok_or_else(missing)?;
        if info.shape != shape {
            return Err(LoadError::WrongShape {
                path: shard.file.path().to_owned(),
                name: hf_name.to_owned(),
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let (start, end) = info.data_offsets;
        let bytes = shard
            .file
            .bytes()
            .get(shard.data_start + start..shard.data_start + end)
            .ok_or_else(missing)?;
        widen(info.dtype, bytes).ok_or_else(|| {
            LoadError::unsupported(
                shard.file.path(),
                format!(
                    "tensor {hf_name} is {:?}; F32, F16 and BF16 are",
                    info.dtype
                ),
            )
        })
    }
}

#[cfg(test)]
pub(super) fn check_header(bytes: &[u8]) -> Result<(), LoadError> {
    read_header(bytes, Path::new("any")).map(|_| ())
}
