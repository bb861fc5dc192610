//! `foedus.json`, the file beside PEFT's two that names the base model by fingerprint.
//!
//! PEFT's own `base_model_name_or_path` is a name anyone can give to anything; an adapter for
//! another base loads without a word and is nonsense.

use serde::{Deserialize, Serialize};

use super::PeftError;

const FILE: &str = "foedus.json";
const BYTES_MAX: usize = 64 << 10;

/// What an adapter was trained for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// SHA-256 that names the base model.
    pub base_fingerprint: [u8; 32],
    /// The base model's name, for people.
    pub base_name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    base_fingerprint: String,
    base_name: String,
}

impl Sidecar {
    /// The bytes of `foedus.json`.
    pub fn to_json(&self) -> Vec<u8> {
        let raw = Raw {
            base_fingerprint: hex::encode(self.base_fingerprint),
            base_name: self.base_name.clone(),
        };
        let mut json = serde_json::to_vec_pretty(&raw).expect("two strings are valid JSON");
        json.push(b'\n');
        json
    }

    /// Reads the bytes of `foedus.json`.
    ///
    /// # Errors
    /// [`PeftError::JsonSize`] or [`PeftError::Json`], saying what is wrong.
    pub fn from_json(json: &[u8]) -> Result<Self, PeftError> {
        if json.len() > BYTES_MAX {
            return Err(PeftError::JsonSize {
                file: FILE,
                found: json.len(),
                limit: BYTES_MAX,
            });
        }
        let wrong = |what| PeftError::Json { file: FILE, what };
        let raw: Raw = serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
        let mut base_fingerprint = [0; 32];
        hex::decode_to_slice(&raw.base_fingerprint, &mut base_fingerprint)
            .map_err(|_| wrong("base_fingerprint is not 64 hex digits".to_owned()))?;
        Ok(Self {
            base_fingerprint,
            base_name: raw.base_name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecar_round_trips() {
        let sidecar = Sidecar {
            base_fingerprint: [0xab; 32],
            base_name: "a \"b\"".to_owned(),
        };
        assert_eq!(Sidecar::from_json(&sidecar.to_json()), Ok(sidecar));
    }

    #[test]
    fn a_wrong_sidecar_is_refused_with_the_place() {
        let refuse = |json: &str| Sidecar::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(refuse("{").contains("line 1"));
        assert!(refuse(r#"{"base_fingerprint":"ab","base_name":"x"}"#).contains("64 hex digits"));
        let unknown = r#"{"base_fingerprint":"ab","base_name":"x","more":1}"#;
        assert!(refuse(unknown).contains("unknown field"));
        assert!(refuse(&" ".repeat(BYTES_MAX + 1)).contains("more than"));
    }
}
