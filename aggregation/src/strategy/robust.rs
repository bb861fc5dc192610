//! Robust rules: what a round comes to when some of its participants may send anything.
//!
//! Each rule needs all updates of a round, as bytes that can be [read](ReadAt) again, and takes them a
//! [block](BLOCK_BYTES) of columns at a time. Updates count alike, whatever weight was claimed for them: weights are the
//! attacker's to choose. The order of arrival, the size of a block and the number of threads change no bit of the result.
//!
//! What they are not: a bound on the norm of an update, which [`crate::admission`] keeps under every rule; and no help where
//! more participants are hostile than a rule bears. From `n / 2` on (median, geometric median), beyond `trim`, and beyond
//! what was declared to Krum, the hostile ones may get what they want.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::encoded::{EncodedUpdate, ReadAt};
use crate::layout::{AdapterLayout, Factor};

use super::columns::{Columns, Unusable};
use super::{geometric_median, krum, median, trimmed_mean};

/// Bytes of the block that a rule works in. Up to [`UPDATES_MAX`] updates none is larger.
///
/// The memory of a rule is this, the resulting update, and for Krum eight bytes for each pair of updates.
pub const BLOCK_BYTES: usize = 32 << 20;

/// The most updates in one round under a robust rule.
pub const UPDATES_MAX: usize = 1000;

/// A rule, with what the federation declares of those that it must bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RobustRule {
    /// The coordinate-wise median. Bears fewer than half.
    Median,
    /// The coordinate-wise mean without the `trim` lowest and the `trim` highest. Bears `trim`.
    TrimmedMean {
        /// How many values are left out at either end.
        trim: usize,
    },
    /// The mean of the `keep` updates that are closest to the others: Krum with one, Multi-Krum with more. Bears `byzantine`.
    Krum {
        /// How many participants may be hostile.
        byzantine: usize,
        /// How many updates are averaged.
        keep: usize,
    },
    /// The geometric median. Bears fewer than half.
    GeometricMedian {
        /// Steps from the coordinate-wise median.
        passes: u32,
    },
}

/// What a rule made of a round's updates.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The values of the update that the global adapter is moved by.
    pub update: Vec<f32>,
    /// The Euclidean distance of each update from it, in the order of names.
    pub distances: Vec<f64>,
    /// Positions in the order of names of the updates that have no part in it. Only Krum leaves whole updates out.
    pub left_out: Vec<usize>,
}

/// Why a rule gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum RobustError {
    /// Fewer updates than the rule's condition asks for.
    #[error("{rule} needs at least {needed} updates, and there are {found}")]
    TooFew {
        /// The rule with its numbers.
        rule: RobustRule,
        /// Updates there are.
        found: usize,
        /// Updates it needs.
        needed: usize,
    },
    /// More updates than the block has room for.
    #[error("{found} updates, and a robust rule takes at most {UPDATES_MAX}")]
    TooMany {
        /// Updates there are.
        found: usize,
    },
    /// An update does not have the size of the run's layout.
    #[error("the update of {name} has {found} bytes, the run's layout {expected}")]
    Size {
        /// Whose.
        name: String,
        /// Bytes there are.
        found: u64,
        /// Bytes of the layout.
        expected: u64,
    },
    /// A value is NaN or infinite, which was not so when the update was admitted.
    #[error(
        "{factor} of {module} in the update of {name} has a value that is not finite at index {index}"
    )]
    NotFinite {
        /// Whose.
        name: String,
        /// The module.
        module: String,
        /// Which of its two factors.
        factor: Factor,
        /// Index into the row-major factor.
        index: usize,
    },
    /// An update's bytes cannot be read.
    #[error("the update of {name} cannot be read: {source}")]
    Read {
        /// Whose.
        name: String,
        /// What the system says.
        source: io::Error,
    },
}

impl fmt::Display for RobustRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Median => f.write_str("median"),
            Self::TrimmedMean { trim } => write!(f, "trimmed-mean with trim {trim}"),
            Self::Krum { byzantine, keep } => {
                write!(f, "krum with byzantine {byzantine} and keep {keep}")
            }
            Self::GeometricMedian { passes } => write!(f, "geometric-median with passes {passes}"),
        }
    }
}

impl RobustRule {
    /// The fewest updates for which the rule holds what it promises.
    ///
    /// Median and geometric median: 3, as of two neither is the middle. Trimmed mean: `2 trim + 1`. Krum: `2 byzantine + 3`,
    /// and `keep + byzantine`.
    pub fn updates_min(&self) -> usize {
        match *self {
            Self::Median | Self::GeometricMedian { .. } => 3,
            Self::TrimmedMean { trim } => trim.saturating_mul(2).saturating_add(1),
            Self::Krum { byzantine, keep } => {
                let condition = byzantine.saturating_mul(2).saturating_add(3);
                condition.max(keep.max(1).saturating_add(byzantine))
            }
        }
    }

    /// Makes one update of all, by name.
    ///
    /// Reads each update once for median and trimmed mean, once more where it is kept for Krum, and once more a pass for the
    /// geometric median, on all cores.
    ///
    /// # Errors
    /// [`RobustError`] if there are too few or too many updates, or one is not what was admitted.
    pub fn apply<N: Ord + fmt::Display, R: ReadAt>(
        &self,
        layout: &AdapterLayout,
        updates: &BTreeMap<N, EncodedUpdate<R>>,
    ) -> Result<Outcome, RobustError> {
        self.apply_within(layout, updates, BLOCK_BYTES)
    }

    fn apply_within<N: Ord + fmt::Display, R: ReadAt>(
        &self,
        layout: &AdapterLayout,
        updates: &BTreeMap<N, EncodedUpdate<R>>,
        block_bytes: usize,
    ) -> Result<Outcome, RobustError> {
        let (found, needed) = (updates.len(), self.updates_min());
        if found < needed {
            let rule = *self;
            return Err(RobustError::TooFew {
                rule,
                found,
                needed,
            });
        }
        if UPDATES_MAX < found {
            return Err(RobustError::TooMany { found });
        }
        for (name, update) in updates {
            check_size(layout, name, update)?;
        }
        let columns = Columns::new(updates.values().collect(), layout.parameters(), block_bytes);
        let outcome = match *self {
            Self::Median => median::apply(&columns),
            Self::TrimmedMean { trim } => trimmed_mean::apply(&columns, trim),
            Self::Krum { byzantine, keep } => krum::apply(&columns, byzantine, keep.max(1)),
            Self::GeometricMedian { passes } => geometric_median::apply(&columns, passes),
        };
        outcome.map_err(|unusable| named(layout, updates, unusable))
    }
}

impl Outcome {
    /// What came of all updates, with the squares of their distances from it.
    pub(super) fn of_all(update: Vec<f32>, squares: &[f64]) -> Self {
        Self {
            update,
            distances: squares.iter().map(|square| square.sqrt()).collect(),
            left_out: Vec::new(),
        }
    }
}

fn check_size<R: ReadAt>(
    layout: &AdapterLayout,
    name: &impl fmt::Display,
    update: &EncodedUpdate<R>,
) -> Result<(), RobustError> {
    let expected = update.encoding().size(layout.parameters()) as u64;
    match update.size() {
        Ok(found) if found == expected => Ok(()),
        Ok(found) => Err(RobustError::Size {
            name: name.to_string(),
            found,
            expected,
        }),
        Err(source) => Err(RobustError::Read {
            name: name.to_string(),
            source,
        }),
    }
}

/// The fault of a row as that of a participant's update.
fn named<N: fmt::Display, U>(
    layout: &AdapterLayout,
    updates: &BTreeMap<N, U>,
    unusable: Unusable,
) -> RobustError {
    let name = |row| {
        updates
            .keys()
            .nth(row)
            .map(N::to_string)
            .unwrap_or_default()
    };
    match unusable {
        Unusable::Read { row, source } => RobustError::Read {
            name: name(row),
            source,
        },
        Unusable::NotFinite { row, column } => {
            let (module, factor, index) = layout.locate(column);
            RobustError::NotFinite {
                name: name(row),
                module: module.name.clone(),
                factor,
                index,
            }
        }
    }
}

#[cfg(test)]
mod tests;
