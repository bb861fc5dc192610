//! Where a participant's bytes become an update or a refusal.
//!
//! Checked in this order: size, weight, every value finite, norm. A refusal names what was found
//! and the rule; whose update it was is known to the caller.

use std::sync::Arc;

use crate::adapter::Adapter;
use crate::error::AdapterError;
use crate::layout::{AdapterLayout, Factor};

/// The bounds of the run plan that every update must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdmissionRules {
    /// Largest Euclidean norm of an update over all its values.
    pub norm_max: f64,
    /// Largest weight a participant may claim.
    ///
    /// # Units
    /// Training examples.
    pub weight_max: u64,
}

/// Why an update was not admitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The update does not have the size of the run's layout.
    #[error("the update has {found} bytes, the run's layout {expected}")]
    WrongSize {
        /// Bytes received.
        found: usize,
        /// Bytes of the layout.
        expected: usize,
    },
    /// The participant claims no examples.
    #[error("the update has weight 0: it was trained on no examples")]
    ZeroWeight,
    /// The participant claims more examples than the plan allows.
    #[error("the update has weight {found}, the run plan allows {limit}")]
    OverWeight {
        /// The weight claimed.
        found: u64,
        /// The largest weight allowed.
        limit: u64,
    },
    /// A value is NaN or infinite.
    #[error("{factor} of {module} has a value that is not finite at index {index}")]
    NotFinite {
        /// The module.
        module: String,
        /// Which of its two factors.
        factor: Factor,
        /// Index into the row-major factor.
        index: usize,
    },
    /// The update is larger than the plan allows.
    #[error("the update has norm {found:.6}, the run plan allows {limit}")]
    OverNorm {
        /// The norm of the update.
        found: f64,
        /// The largest norm allowed.
        limit: f64,
    },
}

/// Admits the bytes of an update of this layout, or says why not.
///
/// # Shapes
/// `bytes` are little-endian f32 in the order of the layout.
///
/// # Units
/// `weight` counts training examples.
///
/// # Errors
/// [`Refusal`], the first rule that is broken. Nothing is allocated before the size fits.
pub fn admit(
    layout: &Arc<AdapterLayout>,
    bytes: &[u8],
    weight: u64,
    rules: &AdmissionRules,
) -> Result<Adapter, Refusal> {
    let expected = layout.parameters() * size_of::<f32>();
    if bytes.len() != expected {
        return Err(Refusal::WrongSize {
            found: bytes.len(),
            expected,
        });
    }
    if weight == 0 {
        return Err(Refusal::ZeroWeight);
    }
    if weight > rules.weight_max {
        return Err(Refusal::OverWeight {
            found: weight,
            limit: rules.weight_max,
        });
    }
    let update = match Adapter::from_le_bytes(Arc::clone(layout), bytes) {
        Ok(update) => update,
        Err(AdapterError::NotFinite {
            module,
            factor,
            index,
        }) => {
            return Err(Refusal::NotFinite {
                module,
                factor,
                index,
            });
        }
        Err(_) => {
            return Err(Refusal::WrongSize {
                found: bytes.len(),
                expected,
            });
        }
    };
    let found = update.norm();
    // Written so that a limit that is not a number admits nothing.
    if found <= rules.norm_max {
        Ok(update)
    } else {
        Err(Refusal::OverNorm {
            found,
            limit: rules.norm_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::ModuleLayout;

    const RULES: AdmissionRules = AdmissionRules {
        norm_max: 5.0,
        weight_max: 100,
    };

    fn layout() -> Arc<AdapterLayout> {
        let name = "model.layers.0.self_attn.q_proj".to_owned();
        let modules = vec![ModuleLayout {
            name,
            in_features: 2,
            out_features: 3,
        }];
        Arc::new(AdapterLayout::new(1, 1.0, false, modules).unwrap())
    }

    fn refusal(values: &[f32], weight: u64) -> Refusal {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        admit(&layout(), &bytes, weight, &RULES).unwrap_err()
    }

    #[test]
    fn an_update_at_the_bounds_is_admitted() {
        let bytes: Vec<u8> = [3.0_f32, 0.0, 0.0, 4.0, 0.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let update = admit(&layout(), &bytes, 100, &RULES).unwrap();
        assert_eq!(update.values(), [3.0, 0.0, 0.0, 4.0, 0.0]);
    }

    #[test]
    fn a_wrong_size_is_refused_with_both_sizes() {
        assert_eq!(
            refusal(&[0.0; 4], 1),
            Refusal::WrongSize {
                found: 16,
                expected: 20
            }
        );
    }

    #[test]
    fn no_weight_and_too_much_weight_are_refused() {
        assert_eq!(refusal(&[0.0; 5], 0), Refusal::ZeroWeight);
        assert_eq!(
            refusal(&[0.0; 5], 101),
            Refusal::OverWeight {
                found: 101,
                limit: 100
            }
        );
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused_and_its_tensor_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let said = refusal(&[0.0, 0.0, 0.0, 0.0, bad], 1).to_string();
            let place = "lora_B of model.layers.0.self_attn.q_proj";
            assert_eq!(
                said,
                format!("{place} has a value that is not finite at index 2")
            );
        }
    }

    #[test]
    fn an_update_over_the_norm_bound_is_refused() {
        let found = refusal(&[3.0, 4.0, 0.01, 0.0, 0.0], 1);
        assert!(matches!(found, Refusal::OverNorm { found, limit: 5.0 } if found > 5.0));
        assert!(matches!(
            refusal(&[f32::MAX; 5], 1),
            Refusal::OverNorm { .. }
        ));
    }
}
