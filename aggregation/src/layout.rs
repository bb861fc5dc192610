//! The shape of an adapter: which linear layers it adapts, at which rank and scale.
//!
//! A layout is what all participants of a run must agree on before any number is exchanged; its
//! digest goes into the run plan. It holds no values: those are [`crate::Adapter`].

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::error::AdapterError;

/// Largest rank a layout may have.
pub const RANK_MAX: usize = 4096;
/// Largest input or output width of a module.
pub const FEATURES_MAX: usize = 1 << 22;
/// Largest number of adapted modules.
pub const MODULES_MAX: usize = 1 << 14;
/// Largest number of values in all: 8 GiB of f32.
pub const PARAMETERS_MAX: usize = 1 << 31;
/// Longest module name in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// One of the two low-rank factors of an adapted linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Factor {
    /// The factor next to the input, `[rank, in]`, `lora_A` in PEFT.
    A,
    /// The factor next to the output, `[out, rank]`, `lora_B` in PEFT.
    B,
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
        })
    }
}

/// One adapted linear layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleLayout {
    /// The module's name as in Hugging Face: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Width of its input.
    pub in_features: usize,
    /// Width of its output.
    pub out_features: usize,
}

/// The modules, rank and scale of an adapter.
///
/// # Shapes
/// The values of all modules lie back to back: for each module in order `A` row-major
/// `[rank, in]`, then `B` row-major `[out, rank]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterLayout {
    rank: usize,
    alpha: f64,
    rslora: bool,
    modules: Vec<ModuleLayout>,
    /// Where each module's values begin; one more entry for the end.
    starts: Vec<usize>,
}

impl AdapterLayout {
    /// Checks and keeps a layout.
    ///
    /// # Errors
    /// [`AdapterError`] if there is no module, a name is not usable or appears twice, a dimension
    /// is zero or beyond this file's limits, or alpha is not positive and finite.
    pub fn new(
        rank: usize,
        alpha: f64,
        rslora: bool,
        modules: Vec<ModuleLayout>,
    ) -> Result<Self, AdapterError> {
        within("rank", rank, RANK_MAX)?;
        if !(alpha.is_finite() && alpha > 0.0) {
            return Err(AdapterError::Alpha { alpha });
        }
        if modules.is_empty() {
            return Err(AdapterError::NoModules);
        }
        within("number of modules", modules.len(), MODULES_MAX)?;
        let mut names = BTreeSet::new();
        let mut starts = Vec::with_capacity(modules.len() + 1);
        let mut end = 0;
        starts.push(end);
        for module in &modules {
            check_module(module)?;
            if !names.insert(module.name.as_str()) {
                return Err(AdapterError::DuplicateModule {
                    module: module.name.clone(),
                });
            }
            // Cannot overflow: rank, widths and the running end are bounded far below 2^63.
            end += rank * (module.in_features + module.out_features);
            within("number of parameters", end, PARAMETERS_MAX)?;
            starts.push(end);
        }
        Ok(Self {
            rank,
            alpha,
            rslora,
            modules,
            starts,
        })
    }

    /// The rank of every module.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The numerator of the scale.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Whether the scale divides by the square root of the rank (rsLoRA, arXiv 2312.03732).
    pub fn rslora(&self) -> bool {
        self.rslora
    }

    /// The scale `s` of `delta W = s * B * A`: `alpha / rank`, or `alpha / sqrt(rank)` for rsLoRA.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// The adapted modules in order.
    pub fn modules(&self) -> &[ModuleLayout] {
        &self.modules
    }

    /// The number of values in all modules together.
    pub fn parameters(&self) -> usize {
        self.starts[self.modules.len()]
    }

    /// Where the values of a module lie: those of `A`, then those of `B`.
    ///
    /// # Panics
    /// If there is no such module.
    pub fn module_range(&self, module: usize) -> Range<usize> {
        self.starts[module]..self.starts[module + 1]
    }

    /// Cuts the values of an adapter into those of its modules.
    ///
    /// # Panics
    /// If there are fewer than the layout has.
    pub(crate) fn split<'a, T>(&self, mut values: &'a mut [T]) -> Vec<&'a mut [T]> {
        let lengths = (0..self.modules.len()).map(|module| self.module_range(module).len());
        let cut = lengths.map(|length| values.split_off_mut(..length));
        let cut: Option<_> = cut.collect();
        cut.expect("there are as many values as the layout has")
    }

    /// Where `A` of the module at this index lies among all values.
    ///
    /// # Panics
    /// If there is no such module.
    pub fn a_range(&self, module: usize) -> Range<usize> {
        let start = self.starts[module];
        start..start + self.rank * self.modules[module].in_features
    }

    /// Where `B` of the module at this index lies among all values.
    ///
    /// # Panics
    /// If there is no such module.
    pub fn b_range(&self, module: usize) -> Range<usize> {
        self.a_range(module).end..self.starts[module + 1]
    }

    /// SHA-256 over everything the layout says, in a fixed little-endian form.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"foedus/layout/1");
        hash.update((self.rank as u64).to_le_bytes());
        hash.update(self.alpha.to_le_bytes());
        hash.update([u8::from(self.rslora)]);
        hash.update((self.modules.len() as u64).to_le_bytes());
        for module in &self.modules {
            hash.update((module.name.len() as u64).to_le_bytes());
            hash.update(module.name.as_bytes());
            hash.update((module.in_features as u64).to_le_bytes());
            hash.update((module.out_features as u64).to_le_bytes());
        }
        hash.finalize().into()
    }

    /// Which module, factor and index within it the value at this position belongs to.
    ///
    /// # Panics
    /// If the position is not below [`Self::parameters`].
    pub fn locate(&self, position: usize) -> (&ModuleLayout, Factor, usize) {
        assert!(
            position < self.parameters(),
            "position {position} is beyond the layout"
        );
        let module = self.starts.partition_point(|&start| start <= position) - 1;
        let a = self.a_range(module);
        let (factor, start) = if position < a.end {
            (Factor::A, a.start)
        } else {
            (Factor::B, a.end)
        };
        (&self.modules[module], factor, position - start)
    }
}

fn check_module(module: &ModuleLayout) -> Result<(), AdapterError> {
    let name = &module.name;
    let usable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(usable) {
        return Err(AdapterError::ModuleName {
            name: name.chars().take(64).collect(),
        });
    }
    within(
        &format!("input width of {name}"),
        module.in_features,
        FEATURES_MAX,
    )?;
    within(
        &format!("output width of {name}"),
        module.out_features,
        FEATURES_MAX,
    )
}

fn within(what: &str, found: usize, limit: usize) -> Result<(), AdapterError> {
    if (1..=limit).contains(&found) {
        return Ok(());
    }
    Err(AdapterError::Dimension {
        what: what.to_owned(),
        found,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, in_features: usize, out_features: usize) -> ModuleLayout {
        ModuleLayout {
            name: name.to_owned(),
            in_features,
            out_features,
        }
    }

    #[test]
    fn factors_lie_back_to_back_a_before_b() {
        let layout =
            AdapterLayout::new(2, 4.0, false, vec![module("x", 3, 5), module("y", 7, 1)]).unwrap();
        assert_eq!((layout.a_range(0), layout.b_range(0)), (0..6, 6..16));
        assert_eq!((layout.a_range(1), layout.b_range(1)), (16..30, 30..32));
        assert_eq!(layout.parameters(), 32);
        let (found, factor, index) = layout.locate(31);
        assert_eq!((found.name.as_str(), factor, index), ("y", Factor::B, 1));
        let (found, factor, index) = layout.locate(15);
        assert_eq!((found.name.as_str(), factor, index), ("x", Factor::B, 9));
    }

    #[test]
    fn scale_is_alpha_over_rank_or_over_its_root() {
        let plain = AdapterLayout::new(16, 32.0, false, vec![module("x", 1, 1)]).unwrap();
        let rslora = AdapterLayout::new(16, 32.0, true, vec![module("x", 1, 1)]).unwrap();
        assert_eq!((plain.scale(), rslora.scale()), (2.0, 8.0));
        assert_ne!(plain.digest(), rslora.digest());
    }

    #[test]
    fn impossible_layouts_are_refused_by_name() {
        let refuse = |rank, alpha, modules| {
            AdapterLayout::new(rank, alpha, false, modules)
                .unwrap_err()
                .to_string()
        };
        assert!(refuse(1, 1.0, vec![]).contains("at least one module"));
        assert!(refuse(0, 1.0, vec![module("x", 1, 1)]).contains("rank is 0"));
        assert!(refuse(1, f64::NAN, vec![module("x", 1, 1)]).contains("alpha"));
        assert!(refuse(1, 1.0, vec![module("x", 0, 1)]).contains("input width of x"));
        assert!(refuse(1, 1.0, vec![module("x", 1, 0)]).contains("output width of x"));
        assert!(refuse(1, 1.0, vec![module("x", 1, 1), module("x", 2, 2)]).contains("twice"));
        assert!(refuse(1, 1.0, vec![module("a\nb", 1, 1)]).contains("\\n"));
        assert!(refuse(1, 1.0, vec![module("x", usize::MAX, 1)]).contains("outside"));
        let huge = vec![module("x", FEATURES_MAX, FEATURES_MAX)];
        assert!(refuse(RANK_MAX, 1.0, huge).contains("parameters"));
    }
}
