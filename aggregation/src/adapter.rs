//! The values of an adapter, or of an update (a difference of two adapters), on the host.
//!
//! Values are f32; norms and products are summed in f64 in a fixed order, so that they do not
//! depend on the machine's vector width.

mod update;

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use crate::encoding::{Encoding, le_bytes};
use crate::error::AdapterError;
use crate::gram;
use crate::layout::AdapterLayout;

pub use update::{CompressedUpdate, Update};

/// Values that are looked at together: whole blocks of any encoding.
const STRETCH: usize = 4096;

/// Values of one layout: the LoRA factors of every module.
///
/// # Shapes
/// As [`AdapterLayout`] says: per module `A` row-major `[rank, in]`, then `B` row-major
/// `[out, rank]`, back to back.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    layout: Arc<AdapterLayout>,
    values: Vec<f32>,
}

impl Adapter {
    /// The adapter, or update, of zeros.
    pub fn zeros(layout: Arc<AdapterLayout>) -> Self {
        let values = vec![0.0; layout.parameters()];
        Self { layout, values }
    }

    /// The adapter training starts from: `A` uniform in `±1 / sqrt(in)`, `B` zero.
    ///
    /// So `delta W` is zero at first, as in Hu et al. 2021 and PEFT (kaiming uniform with
    /// `a = sqrt(5)`). Drawn from `ChaCha8Rng::seed_from_u64(seed)`, 24 bits a value, modules in
    /// order: the same seed gives the same bytes everywhere.
    pub fn initial(layout: Arc<AdapterLayout>, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut adapter = Self::zeros(layout);
        for module in 0..adapter.layout.modules().len() {
            let bound = 1.0 / (adapter.layout.modules()[module].in_features as f64).sqrt();
            for value in adapter.a_mut(module) {
                let unit = f64::from(rng.next_u32() >> 8) / f64::from(1_u32 << 24);
                *value = ((2.0 * unit - 1.0) * bound) as f32;
            }
        }
        adapter
    }

    /// Takes values that must be of this layout.
    ///
    /// # Errors
    /// [`AdapterError::Length`] or [`AdapterError::NotFinite`], naming the tensor.
    pub fn from_values(layout: Arc<AdapterLayout>, values: Vec<f32>) -> Result<Self, AdapterError> {
        if values.len() != layout.parameters() {
            let (found, expected) = (values.len(), layout.parameters());
            return Err(AdapterError::Length { found, expected });
        }
        let adapter = Self { layout, values };
        adapter.check_finite()?;
        Ok(adapter)
    }

    /// Reads little-endian f32 values that must be of this layout.
    ///
    /// # Errors
    /// [`AdapterError::ByteLength`] or [`AdapterError::NotFinite`], naming the tensor. Nothing is
    /// allocated before the length is known to fit.
    pub fn from_le_bytes(layout: Arc<AdapterLayout>, bytes: &[u8]) -> Result<Self, AdapterError> {
        Self::from_encoded(layout, Encoding::F32, bytes)
    }

    /// Reads values in some encoding that must be of this layout.
    ///
    /// # Errors
    /// As [`Self::from_le_bytes`].
    pub fn from_encoded(
        layout: Arc<AdapterLayout>,
        encoding: Encoding,
        bytes: &[u8],
    ) -> Result<Self, AdapterError> {
        let expected = encoding.size(layout.parameters());
        if bytes.len() != expected {
            return Err(AdapterError::ByteLength {
                found: bytes.len(),
                expected,
            });
        }
        let mut values = Vec::with_capacity(layout.parameters());
        let mut is_finite = true;
        // Looked at while they are in the processor's cache.
        for bytes in bytes.chunks(encoding.size(STRETCH)) {
            let from = values.len();
            encoding.append(bytes, &mut values);
            is_finite &= all_finite(&values[from..]);
        }
        Self::from_examined(layout, values, is_finite)
    }

    /// Takes values of this layout that were looked at for any that is not finite.
    ///
    /// # Errors
    /// [`AdapterError::NotFinite`], naming the tensor.
    pub(crate) fn from_examined(
        layout: Arc<AdapterLayout>,
        values: Vec<f32>,
        is_finite: bool,
    ) -> Result<Self, AdapterError> {
        let adapter = Self { layout, values };
        if !is_finite {
            adapter.check_finite()?;
        }
        Ok(adapter)
    }

    /// The values as little-endian f32, the form in which updates travel and are hashed.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        Encoding::F32.encode(&self.values)
    }

    /// The layout the values follow.
    pub fn layout(&self) -> &Arc<AdapterLayout> {
        &self.layout
    }

    /// All values, back to back.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values themselves.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// All values, back to back, to change.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// `A` of the module at this index, row-major `[rank, in]`.
    pub fn a(&self, module: usize) -> &[f32] {
        &self.values[self.layout.a_range(module)]
    }

    /// `B` of the module at this index, row-major `[out, rank]`.
    pub fn b(&self, module: usize) -> &[f32] {
        &self.values[self.layout.b_range(module)]
    }

    /// `A` of the module at this index, to change.
    pub fn a_mut(&mut self, module: usize) -> &mut [f32] {
        &mut self.values[self.layout.a_range(module)]
    }

    /// `B` of the module at this index, to change.
    pub fn b_mut(&mut self, module: usize) -> &mut [f32] {
        &mut self.values[self.layout.b_range(module)]
    }

    /// This adapter minus `base`: the update, when `base` is the round's global adapter.
    ///
    /// # Errors
    /// [`AdapterError::LayoutMismatch`] if the layouts differ, [`AdapterError::NotFinite`] if a
    /// difference is not a number.
    pub fn difference(&self, base: &Self) -> Result<Self, AdapterError> {
        self.check_same_layout(base)?;
        let pairs = self.values.iter().zip(&base.values);
        let values = pairs.map(|(value, base)| value - base).collect();
        Self::from_values(Arc::clone(&self.layout), values)
    }

    /// Adds an update to this adapter.
    ///
    /// # Errors
    /// [`AdapterError::LayoutMismatch`] if the layouts differ (nothing is changed then),
    /// [`AdapterError::NotFinite`] if a sum overflows f32.
    pub fn add(&mut self, delta: &Self) -> Result<(), AdapterError> {
        self.check_same_layout(delta)?;
        for (value, delta) in self.values.iter_mut().zip(&delta.values) {
            *value += delta;
        }
        self.check_finite()
    }

    /// The Euclidean norm over all values, summed in f64.
    pub fn norm(&self) -> f64 {
        squared_norm(&self.values).sqrt()
    }

    /// SHA-256 of [`Self::to_le_bytes`].
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(le_bytes(&self.values)).into()
    }

    /// The Frobenius norm of the effective weight change `s * B * A` over all modules.
    ///
    /// Computed from Grams, `|BA|^2 = <B^T B, A A^T>`, so no `[out, in]` matrix is formed:
    /// `O(rank^2 (in + out))` a module.
    pub fn product_norm(&self) -> f64 {
        let squared: f64 = (0..self.layout.modules().len())
            .map(|module| {
                let (a, b) = (self.a(module), self.b(module));
                gram::product_norm_squared(&[gram::Term { weight: 1.0, a, b }], self.layout.rank())
            })
            .sum();
        self.layout.scale() * squared.sqrt()
    }

    /// Multiplies every value by this factor.
    pub fn scale(&mut self, factor: f64) {
        for value in &mut self.values {
            *value = (f64::from(*value) * factor) as f32;
        }
    }

    /// Checks that every value is finite.
    ///
    /// # Errors
    /// [`AdapterError::NotFinite`] naming the first value that is not.
    pub fn check_finite(&self) -> Result<(), AdapterError> {
        // Stretch by stretch without a way out in between, which keeps the loop vectorised.
        let Some(stretch) = self
            .values
            .chunks(STRETCH)
            .position(|values| !all_finite(values))
        else {
            return Ok(());
        };
        let from = stretch * STRETCH;
        let after = self.values[from..]
            .iter()
            .position(|value| !value.is_finite());
        let position = from + after.expect("one of the stretch is not finite");
        let (module, factor, index) = self.layout.locate(position);
        Err(AdapterError::NotFinite {
            module: module.name.clone(),
            factor,
            index,
        })
    }

    pub(crate) fn same_layout(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.layout, &other.layout) || self.layout == other.layout
    }

    fn check_same_layout(&self, other: &Self) -> Result<(), AdapterError> {
        if self.same_layout(other) {
            Ok(())
        } else {
            Err(AdapterError::LayoutMismatch)
        }
    }
}

/// The values of an adapter as little-endian f32, without a copy: for whoever keeps or sends them while others use them.
///
/// Only where the machine is little-endian; see [`LeBytes::of`].
#[derive(Debug, Clone)]
pub struct LeBytes(Arc<Adapter>);

impl LeBytes {
    /// Gives the bytes of an adapter, or nothing on a machine on which they are not its memory.
    pub fn of(adapter: &Arc<Adapter>) -> Option<Self> {
        cfg!(target_endian = "little").then(|| Self(Arc::clone(adapter)))
    }
}

impl AsRef<[u8]> for LeBytes {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0.values)
    }
}

/// Whether every value is finite, without a way out in between.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    let finite = values.iter().map(|value| value.is_finite());
    finite.fold(true, |all, one| all & one)
}

/// The sum of the squares.
pub(crate) fn squared_norm(values: &[f32]) -> f64 {
    // Eight partial sums in a fixed pattern: the same result everywhere, and no long chain of
    // dependent additions.
    let mut partial = [0.0_f64; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for (sum, &value) in partial.iter_mut().zip(chunk) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    for (sum, &value) in partial.iter_mut().zip(rest) {
        *sum += f64::from(value) * f64::from(value);
    }
    partial.iter().sum()
}

#[cfg(test)]
mod tests;
