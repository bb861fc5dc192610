//! Where a participant's bytes become an update or a refusal.
//!
//! Checked in this order: size, weight, every value finite, norm. A refusal names what was found
//! and the rule; whose update it was is known to the caller.

use std::io;
use std::sync::Arc;

use rayon::prelude::*;

use crate::adapter::squared_norm;
use crate::encoded::{EncodedUpdate, ReadAt};
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
        found: u64,
        /// Bytes of the layout.
        expected: u64,
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

/// Why nothing can be said about an update, or that it is refused.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionError {
    /// It breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its bytes cannot be read. That is not its sender's fault.
    #[error("the update cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// An update that keeps all rules, still as bytes.
#[derive(Debug)]
pub struct Admitted<R> {
    pub(crate) layout: Arc<AdapterLayout>,
    pub(crate) update: EncodedUpdate<R>,
    pub(crate) weight: u64,
    norm: f64,
}

impl<R> Admitted<R> {
    /// The Euclidean norm over all values.
    pub fn norm(&self) -> f64 {
        self.norm
    }

    /// Where its values are.
    pub fn bytes(&self) -> &R {
        self.update.bytes()
    }
}

/// Admits an update of this layout, or says why not.
///
/// Reads it once, module by module on all cores; the memory it takes does not grow with the update.
///
/// # Units
/// `weight` counts training examples.
///
/// # Errors
/// [`AdmissionError`], of refusals the first rule that is broken.
pub fn admit<R: ReadAt>(
    layout: &Arc<AdapterLayout>,
    update: EncodedUpdate<R>,
    weight: u64,
    rules: &AdmissionRules,
) -> Result<Admitted<R>, AdmissionError> {
    let (found, expected) = (update.size()?, update.encoding().size(layout.parameters()));
    let expected = expected as u64;
    if found != expected {
        return Err(Refusal::WrongSize { found, expected }.into());
    }
    if weight == 0 {
        return Err(Refusal::ZeroWeight.into());
    }
    let limit = rules.weight_max;
    if weight > limit {
        return Err(Refusal::OverWeight {
            found: weight,
            limit,
        }
        .into());
    }
    let modules = (0..layout.modules().len()).into_par_iter();
    let squares: Vec<_> = modules
        .map_init(Vec::new, |values, module| {
            examine(layout, &update, module, values)
        })
        .collect();
    // In order: of several values that are not finite the first is named, and the norm is the same on any machine.
    let mut square = 0.0;
    for module in squares {
        square += module?;
    }
    let (found, limit) = (square.sqrt(), rules.norm_max);
    // Written so that a limit that is not a number admits nothing.
    if found <= limit {
        Ok(Admitted {
            layout: Arc::clone(layout),
            update,
            weight,
            norm: found,
        })
    } else {
        Err(Refusal::OverNorm { found, limit }.into())
    }
}

/// Checks one module's values and gives the square of their norm.
fn examine<R: ReadAt>(
    layout: &AdapterLayout,
    update: &EncodedUpdate<R>,
    module: usize,
    values: &mut Vec<f32>,
) -> Result<f64, AdmissionError> {
    let range = layout.module_range(module);
    values.resize(range.len(), 0.0);
    update.read(range.start, values)?;
    // Not finite if any value is not: squares of f32 cannot overflow f64.
    let square = squared_norm(values);
    if square.is_finite() {
        return Ok(square);
    }
    let position = values.iter().position(|value| !value.is_finite());
    let (module, factor, index) = layout.locate(range.start + position.unwrap_or(0));
    let module = module.name.clone();
    Err(Refusal::NotFinite {
        module,
        factor,
        index,
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
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
        let bytes = Encoding::F32.encode(values);
        let update = EncodedUpdate::new(bytes.as_slice(), Encoding::F32);
        match admit(&layout(), update, weight, &RULES).unwrap_err() {
            AdmissionError::Refused(refusal) => refusal,
            AdmissionError::Read(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_update_at_the_bounds_is_admitted() {
        for encoding in [Encoding::F32, Encoding::Bf16] {
            let bytes = encoding.encode(&[3.0, 0.0, 0.0, 4.0, 0.0]);
            let update = EncodedUpdate::new(bytes.as_slice(), encoding);
            let admitted = admit(&layout(), update, 100, &RULES).unwrap();
            assert_eq!(admitted.norm(), 5.0);
        }
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
    fn blocks_of_int8_are_judged_by_what_they_decode_to() {
        let judge = |scale: f32, steps: [i8; 5]| {
            let mut bytes = scale.to_le_bytes().to_vec();
            bytes.extend(steps.map(i8::cast_unsigned));
            let update = EncodedUpdate::new(bytes.as_slice(), Encoding::Int8);
            admit(&layout(), update, 1, &RULES).map(|admitted| admitted.norm())
        };
        assert_eq!(judge(0.5, [6, 0, 0, -8, 0]).unwrap(), 5.0);
        let over = judge(0.5, [6, 0, 0, -9, 0]).unwrap_err().to_string();
        assert!(over.starts_with("the update has norm 5.4"), "{over}");
        let place = "lora_A of model.layers.0.self_attn.q_proj has a value that is not finite";
        for scale in [f32::NAN, f32::INFINITY, f32::MAX] {
            let said = judge(scale, [2; 5]).unwrap_err().to_string();
            assert_eq!(said, format!("{place} at index 0"));
        }
        let bytes = [0; 8];
        let update = EncodedUpdate::new(bytes.as_slice(), Encoding::Int8);
        let short = admit(&layout(), update, 1, &RULES).unwrap_err();
        assert_eq!(
            short.to_string(),
            "the update has 8 bytes, the run's layout 9"
        );
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
