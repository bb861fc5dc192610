//! The PEFT folder that a run starts from, as it lies on disk.

use std::path::Path;

use aggregation::peft::{self, PeftConfig, Sidecar};
use aggregation::{Adapter, AdapterLayout};
use protocol::Digest;

use super::error::StartError;
use super::layers;
use crate::config::Config;

/// The three files of an adapter folder.
pub(crate) const CONFIG_FILE: &str = "adapter_config.json";
pub(crate) const MODEL_FILE: &str = "adapter_model.safetensors";
pub(crate) const SIDECAR_FILE: &str = "foedus.json";

/// JSON and safetensors headers beside an adapter's values, in bytes.
const OVERHEAD_BYTES_MAX: u64 = 16 << 20;

/// An adapter, and what its folder says of it.
pub(super) struct StartFolder {
    pub(super) adapter: Adapter,
    pub(super) peft: PeftConfig,
    pub(super) sidecar: Sidecar,
}

impl StartFolder {
    pub(super) fn load(config: &Config) -> Result<Self, StartError> {
        let folder = &config.run.start;
        let limit = config.adapter_bytes_max;
        let config_json = read(&folder.join(CONFIG_FILE), OVERHEAD_BYTES_MAX)?;
        let safetensors = read(
            &folder.join(MODEL_FILE),
            limit.saturating_add(OVERHEAD_BYTES_MAX),
        )?;
        let foedus_json = read(&folder.join(SIDECAR_FILE), OVERHEAD_BYTES_MAX)?;
        let bad = |source| StartError::Peft {
            folder: folder.clone(),
            source,
        };
        let (adapter, peft) = peft::load(&config_json, &safetensors).map_err(bad)?;
        let sidecar = Sidecar::from_json(&foedus_json).map_err(bad)?;
        layers::check(adapter.layout()).map_err(|what| StartError::Layers {
            folder: folder.clone(),
            what,
        })?;
        let bytes = adapter_bytes(adapter.layout());
        if bytes > limit {
            return Err(StartError::TooLarge {
                path: folder.clone(),
                found: bytes,
                limit,
            });
        }
        let found = Digest(sidecar.base_fingerprint);
        match config.run.base {
            Some(expected) if expected != found => Err(StartError::OtherBase {
                folder: folder.clone(),
                found,
                expected,
            }),
            _ => Ok(Self {
                adapter,
                peft,
                sidecar,
            }),
        }
    }
}

pub(super) fn adapter_bytes(layout: &AdapterLayout) -> u64 {
    layout.parameters() as u64 * size_of::<f32>() as u64
}

/// Reads a file of which there may be `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, StartError> {
    let failed = |source| StartError::Read {
        path: path.to_owned(),
        source,
    };
    let found = std::fs::metadata(path).map_err(failed)?.len();
    if found > limit {
        return Err(StartError::TooLarge {
            path: path.to_owned(),
            found,
            limit,
        });
    }
    std::fs::read(path).map_err(failed)
}
