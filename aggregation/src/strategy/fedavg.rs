//! FedAvg: the mean of the updates, weighted by training examples.
//!
//! `sum_i w_i * delta_i / sum_i w_i` (McMahan et al. 2017, arXiv 1602.05629, algorithm 1), of both
//! factors apart (FedIT, arXiv 2305.05644). Streaming: an update is folded in as it arrives and can
//! be dropped; memory does not grow with participants. The sum is in [fixed
//! point](super::fixed_point), so any order of arrival, and any split over threads that is
//! [merged](FedAvg::merge) afterwards, gives the same bytes.

mod folding;
mod next;

use std::io;
use std::sync::Arc;

use rayon::prelude::*;

use super::fixed_point::{FixedPoint, decode_means};
use crate::adapter::Adapter;
use crate::error::AdapterError;
use crate::inexactness::ProductSketch;
use crate::layout::{AdapterLayout, Factor};

pub use folding::TOGETHER;
pub use next::Next;

/// Why an update was not folded in, or no mean exists.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AggregateError {
    /// The plan's bounds leave too little precision.
    #[error(
        "no fixed point fits {participants_max} participants of weight up to {weight_max} with \
         updates of norm up to {norm_max}: lower one of the three limits"
    )]
    Bounds {
        /// Participants that may contribute.
        participants_max: u32,
        /// Largest weight.
        weight_max: u64,
        /// Largest norm.
        norm_max: f64,
    },
    /// The update has another layout.
    #[error("the update has another adapter layout than the run")]
    LayoutMismatch,
    /// The weight is zero or over the bound the fixed point was made for.
    #[error("the update has weight {found}, outside 1 to {limit}")]
    Weight {
        /// The weight given.
        found: u64,
        /// The bound.
        limit: u64,
    },
    /// One more participant than the fixed point was made for.
    #[error("more than {limit} participants in one round")]
    TooManyParticipants {
        /// The bound.
        limit: u32,
    },
    /// A value is NaN or over the bound the fixed point was made for.
    #[error("{factor} of {module} has a value outside -{limit} to {limit} at index {index}")]
    Value {
        /// The module.
        module: String,
        /// Which of its two factors.
        factor: Factor,
        /// Index into the row-major factor.
        index: usize,
        /// The bound.
        limit: f64,
    },
    /// The norm is over the bound the fixed point was made for.
    #[error("the update has norm {found:.6}, more than {limit}")]
    Norm {
        /// The norm of the update.
        found: f64,
        /// The bound.
        limit: f64,
    },
    /// Two partial sums with different encodings.
    #[error("the two partial sums were made for different run plans")]
    FixedPointMismatch,
    /// Nothing was folded in.
    #[error("no update was accepted, so there is no mean")]
    Empty,
    /// The next adapter is none.
    #[error("the next adapter cannot be formed: {0}")]
    Next(#[from] AdapterError),
}

/// Why an update that lies in bytes was not folded in.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// It does not belong into this sum.
    #[error(transparent)]
    Refused(#[from] AggregateError),
    /// Its bytes cannot be read.
    #[error("the update cannot be read: {source}")]
    Read {
        /// Which of those that were to be folded in together, from 0.
        update: usize,
        /// What the system says.
        source: io::Error,
    },
}

/// A weighted sum of updates that grows as they arrive.
#[derive(Debug, Clone)]
pub struct FedAvg {
    layout: Arc<AdapterLayout>,
    fixed: FixedPoint,
    /// One vector a module, empty until an update is folded in: a sum takes memory only while it is needed.
    sums: Vec<Vec<i64>>,
    products: ProductSketch,
    participants: u32,
    total_weight: u64,
    /// Updates that needed no clipping.
    within_clip: u32,
}

impl FedAvg {
    /// An empty sum.
    pub fn new(layout: Arc<AdapterLayout>, fixed: FixedPoint) -> Self {
        let sums = vec![Vec::new(); layout.modules().len()];
        let products = ProductSketch::new(Arc::clone(&layout), fixed.norm_max());
        Self {
            layout,
            fixed,
            sums,
            products,
            participants: 0,
            total_weight: 0,
            within_clip: 0,
        }
    }

    /// Adds the sum that another thread made of other participants.
    ///
    /// # Errors
    /// [`AggregateError`] if layout or encoding differ, or both together have too many
    /// participants; this sum is then unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<(), AggregateError> {
        if self.layout != other.layout {
            return Err(AggregateError::LayoutMismatch);
        }
        if self.fixed != other.fixed {
            return Err(AggregateError::FixedPointMismatch);
        }
        let limit = self.fixed.participants_max();
        let participants = self.participants.checked_add(other.participants);
        let Some(participants) = participants.filter(|&participants| participants <= limit) else {
            return Err(AggregateError::TooManyParticipants { limit });
        };
        for (sums, other) in self.sums.iter_mut().zip(&other.sums) {
            sums.resize(sums.len().max(other.len()), 0);
            for (sum, other) in sums.iter_mut().zip(other) {
                *sum += other;
            }
        }
        self.products.merge(&other.products);
        self.participants = participants;
        self.total_weight += other.total_weight;
        self.within_clip += other.within_clip;
        Ok(())
    }

    /// How many updates were folded in.
    pub fn participants(&self) -> u32 {
        self.participants
    }

    /// How many of them were not longer than the norm that they were to be shrunk to.
    pub fn within_clip(&self) -> u32 {
        self.within_clip
    }

    /// The sum of their weights.
    ///
    /// # Units
    /// Training examples.
    pub fn total_weight(&self) -> u64 {
        self.total_weight
    }

    /// The mean update.
    ///
    /// # Errors
    /// [`AggregateError::Empty`] if nothing was folded in.
    pub fn mean(&self) -> Result<Adapter, AggregateError> {
        if self.participants == 0 {
            return Err(AggregateError::Empty);
        }
        let (scale, total) = (self.fixed.scale(), self.total_weight as i64);
        let mut values = vec![0.0; self.layout.parameters()];
        let modules = self.layout.split(&mut values).into_par_iter();
        let modules = modules.zip(self.sums.par_iter());
        modules.for_each(|(values, sums)| decode_means(values, sums, total, scale));
        Ok(Adapter::from_values(Arc::clone(&self.layout), values)
            .expect("a mean of bounded values is bounded"))
    }

    /// How far the product of the mean factors is from the mean product, relative to the latter.
    ///
    /// `|sum_i w_i B_i A_i - B A| / |sum_i w_i B_i A_i|` with `B`, `A` the mean factors and
    /// `sum_i w_i = 1`. An estimate from random buckets, made while streaming; see
    /// [`crate::inexactness`]. Zero if nothing was folded in.
    ///
    /// # Panics
    /// If `global`, the adapter the participants started from, or `mean`, that of this sum, has another layout.
    pub fn inexactness(&self, global: &Adapter, mean: &Adapter) -> f64 {
        if self.participants == 0 {
            return 0.0;
        }
        self.products
            .relative_error(global, mean, self.total_weight)
    }
}

#[cfg(test)]
mod tests;
